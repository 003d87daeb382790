"""Describe entries without their schemas, for people and for `model-cache inspect`.

Predictions do not use this; see `codec`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import Any, Literal

from model_cache.entries.compressors import COMPRESSORS, TooLargeError
from model_cache.entries.encryption import Cipher
from model_cache.entries.envelope import (
    ENCRYPTED,
    MARK,
    MAX_PAYLOAD,
    fresh_until_of,
    tag_of,
    take_apart,
    unpack,
)
from model_cache.entries.readable import Anything, readable_row, readable_value
from model_cache.entries.row_entries import ROWS, RowResult
from model_cache.entries.serders import MESSAGE_PACK, PLAIN, SERDERS, VALUES
from model_cache.entries.values import PYTHON_VALUES
from model_cache.interruptions import reraise_interruption
from model_cache.protocols import Serder

# Models can't use the serders of functions and rows, so they are not registered.
_OF_FUNCTIONS: dict[int, Serder] = {PYTHON_VALUES.id: PYTHON_VALUES, ROWS.id: ROWS}


@dataclass(frozen=True)
class Description:
    """The description of an entry, read without its schema.

    Attributes:
        form: "plain" or "envelope"; None if it is neither.
        serder: the name of its serder, or "#" and the id if it is not registered.
        compressor: likewise for its compressor; None if it is not compressed.
        encrypted: whether its content is encrypted.
        tag: "none", "right" or "wrong". Also "wrong" if another secret was used. Encryption has a
            tag of its own, which nobody can check without the key.
        fresh_until: when it becomes stale, in milliseconds since 1970; None for never.
        value: its content as plain Python values; None if it can't be read.
        problem: why it can't be read; None if it can.
    """

    form: Literal["plain", "envelope"] | None = None
    serder: str | None = None
    compressor: str | None = None
    encrypted: bool = False
    tag: Literal["none", "right", "wrong"] = "none"
    fresh_until: int | None = None
    value: Any = None
    problem: str | None = None


def describe(
    key: bytes, entry: bytes, tag_key: bytes = b"", cipher: Cipher | None = None
) -> Description:
    """Return the description of an entry. Its value is not validated.

    Args:
        key: the key of the entry.
        entry: the entry, which may be arbitrary bytes.
        tag_key: keys the tag.
        cipher: decrypts the entry, if it is encrypted.
    """
    first = entry[0] if entry else None
    if first == MARK:
        return _describe_envelope(key, entry, tag_key, cipher)
    serder = None if first is None else PLAIN.get(first)
    if serder is None:
        return Description(problem="neither an object, nor an array, nor an envelope")
    return _with_value(Description("plain", serder.name), serder, entry)


def _describe_envelope(
    key: bytes, entry: bytes, tag_key: bytes, cipher: Cipher | None
) -> Description:
    try:
        head, tag, data = take_apart(entry)
    except (ValueError, IndexError):
        return Description("envelope", problem="truncated, or another format version")
    serder = _OF_FUNCTIONS.get(head[2]) or SERDERS.get(head[2])
    compressor = COMPRESSORS.get(head[3])
    described = Description(
        "envelope",
        serder.name if serder else f"#{head[2]}",
        (compressor.name if compressor else f"#{head[3]}") if head[3] else None,
        tag=_verdict(tag, tag_key, key, head, data),
        fresh_until=fresh_until_of(head),
    )
    if head[4] & ENCRYPTED:
        described = replace(described, encrypted=True, tag="none")
        if cipher is None:
            return replace(described, value="encrypted, and no key was given")
        try:
            data = cipher.decrypt(key, head, data)
        except ValueError:
            return replace(described, tag="wrong", value="encrypted with another key, or damaged")
        described = replace(described, tag="right")
    if serder is None or (head[3] and compressor is None):
        return replace(described, problem="its serder or compressor is not registered")
    try:
        _, data = unpack(head, data, MAX_PAYLOAD)
    except TooLargeError:  # may be valid, depending on `max_entry_bytes`
        return replace(described, value="more than 8 MiB uncompressed, not decoded")
    except Exception as error:
        reraise_interruption(error)
        return replace(described, problem=f"its payload is damaged ({type(error).__name__})")
    return _with_value(described, serder, data)


def _verdict(
    tag: bytes, tag_key: bytes, key: bytes, head: bytes, data: bytes
) -> Literal["none", "right", "wrong"]:
    if not tag:
        return "none"
    return "right" if hmac.compare_digest(tag, tag_of(tag_key, key, head, data)) else "wrong"


def _with_value(described: Description, serder: Serder, data: bytes) -> Description:
    reader = MESSAGE_PACK if serder is VALUES else serder  # without the names
    try:
        if serder is PYTHON_VALUES:
            return replace(described, value=readable_value(data))
        if serder is ROWS:
            row = ROWS.loads(data, RowResult)
            return replace(described, value=readable_row(row.form, row.payload))
        value = getattr(reader.loads(data, Anything), "root", None)
    except Exception as error:  # Redis is untrusted
        reraise_interruption(error)
        return replace(described, problem=f"invalid {serder.name} ({type(error).__name__})")
    return replace(described, value=value)
