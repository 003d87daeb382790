"""Entries: what Redis holds for a prediction, and how it is read again.

A prediction that its serder dumps to an object is stored as that plain JSON or MessagePack.
Anything else is an envelope, which describes itself, so a fleet may mix and change options:

    byte 0  0xC1, the first byte of neither JSON nor MessagePack
    byte 1  the envelope's format version
    byte 2  the serder's id
    byte 3  the compressor's id; 0 for none
    byte 4  flags; bit 0: there is a tag; bit 1: the payload begins with the unset fields;
            bit 2: there is a time
    8 bytes  the time until which the entry is fresh, in milliseconds since 1970
    16 bytes  the tag, over the key, the bytes above and the payload
    the payload, compressed: the unset fields, as MessagePack after their length in two bytes,
        then what the serder wrote

Entries are verified on write: one that does not decode to what the model returned is refused.
On read, whatever can't be decoded is a miss. Redis and its keys' making are unknown here.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, NamedTuple

import msgpack
from pydantic import BaseModel, RootModel

from model_cache.canonical import PREDICTIONS
from model_cache.compressors import COMPRESSORS, TooLargeError
from model_cache.errors import NotCacheableError
from model_cache.fields_set import Unset, all_set, mark_unset, unset_fields
from model_cache.protocols import Clock, Compressor, Serder
from model_cache.serders import JSON, MESSAGE_PACK, SERDERS

MAX_PAYLOAD = 8 * 2**20
"""Bytes of a payload, uncompressed: more is neither written nor believed, unless
`max_entry_bytes` is more. Small objects take up to 80 times as much as Python objects."""

_MARK = 0xC1
_VERSION = 1
_TAGGED = 1
_UNSET = 2
_TIMED = 4
_TAG_SIZE = 16
_HEAD_SIZE = 5
_TIME_SIZE = 8
_OBJECT = 0x7B  # "{"
_MAPS = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])  # fixmap, map 16, map 32


class Refusal(Enum):
    """Why a prediction does not become an entry."""

    LOSSY = "it does not survive being stored and read again"
    TOO_LARGE = "its entry is larger than max_entry_bytes"


class EntryRefusedError(Exception):
    """A prediction does not become an entry; `reason` says why."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(reason.value + (f": {detail}" if detail else ""))
        self.reason = reason


def is_fresh(entry: bytes, clock: Clock = time.time) -> bool:
    """Whether an entry that decodes may be a hit.

    Args:
        entry: the entry.
        clock: seconds since 1970.
    """
    if entry[0] != _MARK or not entry[4] & _TIMED:
        return True
    return 1000 * clock() < int.from_bytes(entry[_HEAD_SIZE : _HEAD_SIZE + _TIME_SIZE])


class Read(NamedTuple):
    """What an entry holds for a reader.

    Attributes:
        prediction: the prediction, a new object each time; None if the entry can't be decoded.
        fresh: whether it may be a hit. If not, it may still answer when the model raises.
    """

    prediction: BaseModel | None
    fresh: bool


class Codec:
    """Turns predictions of one schema into entries and back.

    Args:
        schema: what entries decode to.
        serder: what entries are written with; any known one is read.
        compressor: what entries are made smaller with, where it does; None for none.
        max_entry_bytes: larger entries are refused, and misses.
        integrity: whether entries carry a tag, and those without a valid one are misses.
        tag_key: keys the tag, so that entries can't be forged.
        ttl: the longest time that an entry may claim to stay fresh, in milliseconds; None for
            any. A writer whose clock is ahead can't make its entries outlive it by much.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        schema: type[BaseModel],
        *,
        serder: Serder = JSON,
        compressor: Compressor | None = None,
        max_entry_bytes: int = 2**20,
        integrity: bool = False,
        tag_key: bytes = b"",
        ttl: int | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._schema = schema
        # What JSON would lose (NaN, infinities, bytes), MessagePack keeps; with very large
        # ints, and schemas that are strict about types, it is the other way round.
        self._serders = (serder, JSON if serder is MESSAGE_PACK else MESSAGE_PACK)
        self._compressor = compressor
        self._max_entry_bytes = max_entry_bytes
        self._max_payload = max(MAX_PAYLOAD, max_entry_bytes)
        self._integrity = integrity
        self._tag_key = tag_key
        self._ttl = ttl
        self._clock = clock

    def encode(self, key: bytes, prediction: BaseModel, fresh_until: int | None = None) -> bytes:
        """Return the entry for a prediction.

        Args:
            key: where it is to be kept.
            prediction: what the model returned.
            fresh_until: when it becomes stale, in milliseconds since 1970; None for never.

        Raises:
            EntryRefusedError: the prediction would come back changed, or it is too large.
        """
        try:
            # First: a dump would use up an iterator, and an iterator has no canonical form.
            expected = PREDICTIONS.encode(prediction)
        except NotCacheableError as error:
            raise EntryRefusedError(Refusal.LOSSY, str(error)) from None
        detail = ""
        for serder in self._serders:
            for form in (self._dumped, self._dumped_with_unset):
                try:
                    entry = form(key, serder, prediction, fresh_until)
                    if len(entry) > self._max_entry_bytes:
                        raise EntryRefusedError(Refusal.TOO_LARGE)
                    restored = self._open(key, entry)
                    if PREDICTIONS.encode(restored) == expected:
                        return entry
                    detail = detail or _first_change(prediction, restored)
                except EntryRefusedError:
                    raise
                except Exception as error:  # whatever a schema or a serder of the user's raises
                    detail = detail or f"{type(error).__name__} was raised"
        if type(prediction) is not self._schema:
            detail = f"it is a {type(prediction).__qualname__}, not a {self._schema.__qualname__}"
        raise EntryRefusedError(Refusal.LOSSY, detail)

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return the prediction that an entry holds, and whether it is fresh."""
        prediction = self.decode(key, entry)
        return Read(prediction, prediction is not None and self._is_fresh(entry))

    def _is_fresh(self, entry: bytes) -> bool:
        until = _fresh_until(entry) if entry[0] == _MARK else None
        if until is None:
            return True
        left = until - 1000 * self._clock()
        return left > 0 and (self._ttl is None or left <= self._ttl)

    def decode(self, key: bytes, entry: bytes) -> BaseModel | None:
        """Return the prediction that an entry holds, a new object each time; None if it can't be.

        An entry may be truncated, corrupt, foreign, forged, or made for another schema.
        """
        try:
            return self._open(key, entry)
        except Exception:  # Redis is untrusted; a user's validators may raise anything, too
            return None

    def _dumped(
        self, key: bytes, serder: Serder, prediction: BaseModel, fresh_until: int | None
    ) -> bytes:
        data = serder.dumps(prediction)
        plain = (
            serder is self._serders[0]
            and not self._integrity
            and fresh_until is None
            and (
                (serder is JSON and data[0] == _OBJECT)
                or (serder is MESSAGE_PACK and data[0] in _MAPS)
            )
        )
        return self._smallest(key, serder, data, fresh_until, plain=plain)

    def _dumped_with_unset(
        self, key: bytes, serder: Serder, prediction: BaseModel, fresh_until: int | None
    ) -> bytes:
        unset = unset_fields(prediction)
        if not unset:
            raise ValueError("nothing was left out the first time")
        noted: bytes = msgpack.packb(unset)
        data = b"%b%b%b" % (len(noted).to_bytes(2), noted, serder.dumps(all_set(prediction)))
        return self._smallest(key, serder, data, fresh_until, flags=_UNSET)

    def _smallest(
        self,
        key: bytes,
        serder: Serder,
        data: bytes,
        fresh_until: int | None,
        *,
        plain: bool = False,
        flags: int = 0,
    ) -> bytes:
        if len(data) > self._max_payload:
            raise EntryRefusedError(Refusal.TOO_LARGE)
        until = b""
        if fresh_until is not None:
            flags, until = flags | _TIMED, fresh_until.to_bytes(_TIME_SIZE)
        if self._integrity:
            flags |= _TAGGED

        def seal(compressor: int, payload: bytes) -> bytes:
            head = bytes((_MARK, _VERSION, serder.id, compressor, flags)) + until
            tag = _tag(self._tag_key, key, head, payload) if self._integrity else b""
            return b"%b%b%b" % (head, tag, payload)

        entry = data if plain else seal(0, data)
        if self._compressor is not None:
            compressed = seal(self._compressor.id, self._compressor.compress(data))
            entry = min(entry, compressed, key=len)
        return entry

    def _open(self, key: bytes, entry: bytes) -> BaseModel:
        if len(entry) > self._max_entry_bytes:
            raise ValueError("larger than any that would be written")
        first = entry[0]
        if first == _MARK:
            prediction = self._unseal(key, entry)
        elif self._integrity:
            raise ValueError("no tag")
        elif first == _OBJECT:
            prediction = JSON.loads(entry, self._schema)
        elif first in _MAPS:
            prediction = MESSAGE_PACK.loads(entry, self._schema)
        else:
            raise ValueError("neither an object nor an envelope")
        if type(prediction) is not self._schema:
            raise TypeError("not of the output schema")
        return prediction

    def _unseal(self, key: bytes, entry: bytes) -> BaseModel:
        head, tag, data = _take_apart(entry)
        if tag:
            if not hmac.compare_digest(tag, _tag(self._tag_key, key, head, data)):
                raise ValueError("wrong tag")
        elif self._integrity:
            raise ValueError("no tag")
        unset, data = _unpack(head, data, self._max_payload)
        prediction = SERDERS.numbered(head[2]).loads(data, self._schema)
        if unset:
            mark_unset(prediction, unset)
        return prediction


def _take_apart(entry: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the head of an envelope, its tag, empty if it has none, and its payload."""
    version, flags = entry[1], entry[4]
    if version != _VERSION or flags & ~(_TAGGED | _UNSET | _TIMED):
        raise ValueError("not this envelope")
    size = _HEAD_SIZE + (_TIME_SIZE if flags & _TIMED else 0)
    end = size + (_TAG_SIZE if flags & _TAGGED else 0)
    if len(entry) < end:
        raise ValueError("truncated")
    return entry[:size], entry[size:end], entry[end:]


def _first_change(prediction: BaseModel, restored: BaseModel) -> str:
    """Return which field came back changed, in words without its value; "" if none tells."""
    for name in type(restored).model_fields:
        before, after = getattr(prediction, name, None), getattr(restored, name, None)
        if PREDICTIONS.encode(before) != PREDICTIONS.encode(after):
            kinds = [type(value).__qualname__ for value in (before, after)]
            how = "with another value" if kinds[0] == kinds[1] else f"as a {kinds[1]}"
            return f"field {name!r}, a {kinds[0]}, comes back {how}"
    return ""


def _unpack(head: bytes, data: bytes, max_payload: int) -> tuple[Unset, bytes]:
    """Return the unset fields of an envelope's payload, and what its serder wrote."""
    compressor, flags = head[3], head[4]
    if compressor:
        data = COMPRESSORS.numbered(compressor).decompress(data, max_payload)
    unset: Unset = []
    if flags & _UNSET:
        size = 2 + int.from_bytes(data[:2])
        unset, data = msgpack.unpackb(data[2:size]), data[size:]
    return unset, data


def _fresh_until(envelope: bytes) -> int | None:
    if not envelope[4] & _TIMED:
        return None
    return int.from_bytes(envelope[_HEAD_SIZE : _HEAD_SIZE + _TIME_SIZE])


def _tag(tag_key: bytes, key: bytes, head: bytes, payload: bytes) -> bytes:
    hasher = hashlib.blake2b(b"%x:%b%b" % (len(key), key, head), digest_size=_TAG_SIZE, key=tag_key)
    hasher.update(payload)
    return hasher.digest()


class _Anything(RootModel[Any]):
    """The schema of an entry of which no schema is known."""


@dataclass(frozen=True)
class Description:
    """What an entry says of itself, read without its schema.

    Attributes:
        form: "plain", or "envelope"; None for what is neither.
        serder: the name of what it was written with, or "#" and an id that is not known here.
        compressor: likewise; None for none.
        tag: "none", "right", or "wrong", which it also is if it was made with another secret.
        fresh_until: when it becomes stale, in milliseconds since 1970; None for never.
        value: what it holds, as plain Python values; None if it can't be read.
        problem: why it can't be read; None if it can.
    """

    form: Literal["plain", "envelope"] | None = None
    serder: str | None = None
    compressor: str | None = None
    tag: Literal["none", "right", "wrong"] = "none"
    fresh_until: int | None = None
    value: Any = None
    problem: str | None = None


def describe(key: bytes, entry: bytes, tag_key: bytes = b"") -> Description:
    """Return what an entry says of itself; for people, since nothing checks the value.

    Args:
        key: where it was found.
        entry: the entry, which may be anything at all.
        tag_key: keys the tag.
    """
    first = entry[:1]
    if first == bytes((_MARK,)):
        return _describe_envelope(key, entry, tag_key)
    serder = JSON if first == b"{" else MESSAGE_PACK if first and first[0] in _MAPS else None
    if serder is None:
        return Description(problem="neither an object nor an envelope")
    return _with_value(Description("plain", serder.name), serder, entry)


def _describe_envelope(key: bytes, entry: bytes, tag_key: bytes) -> Description:
    try:
        head, tag, data = _take_apart(entry)
    except (ValueError, IndexError):
        return Description("envelope", problem="truncated, or of another format")
    serder, compressor = SERDERS.get(head[2]), COMPRESSORS.get(head[3])
    described = Description(
        "envelope",
        serder.name if serder else f"#{head[2]}",
        (compressor.name if compressor else f"#{head[3]}") if head[3] else None,
        _verdict(tag, tag_key, key, head, data),
        _fresh_until(head),
    )
    if serder is None or (head[3] and compressor is None):
        return replace(described, problem="its serder or compressor is not known here")
    try:
        _, data = _unpack(head, data, MAX_PAYLOAD)
    except TooLargeError:  # as valid as `max_entry_bytes` lets it be
        return replace(described, value="more than 8 MiB uncompressed: not looked at")
    except Exception as error:
        return replace(described, problem=f"its payload is damaged ({type(error).__name__})")
    return _with_value(described, serder, data)


def _verdict(
    tag: bytes, tag_key: bytes, key: bytes, head: bytes, data: bytes
) -> Literal["none", "right", "wrong"]:
    if not tag:
        return "none"
    return "right" if hmac.compare_digest(tag, _tag(tag_key, key, head, data)) else "wrong"


def _with_value(described: Description, serder: Serder, data: bytes) -> Description:
    try:
        value = getattr(serder.loads(data, _Anything), "root", None)
    except Exception as error:  # Redis is untrusted
        return replace(described, problem=f"no valid {serder.name} ({type(error).__name__})")
    return replace(described, value=value)
