"""Encode predictions as entries, and decode them.

If the serder dumps a prediction to an object, the entry is that plain JSON or MessagePack; with
`values`, it is a plain MessagePack array. Anything else is an envelope (see `envelope`), as is each
result of a function.

Entries are verified on write: an entry that does not decode to the model's prediction is refused.
On read, an entry that can't be decoded is a miss.
"""

from __future__ import annotations

import hmac
import inspect
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel

from model_cache.entries.cached_properties import settle
from model_cache.entries.differences import (
    difference,
    not_comparable,
    not_readable,
    not_storable,
    not_writable,
)
from model_cache.entries.encryption import Cipher
from model_cache.entries.envelope import (
    ENCRYPTED,
    MARK,
    MAX_PAYLOAD,
    TAGGED,
    TIME_SIZE,
    TIMED,
    VERSION,
    fresh_until_of,
    tag_of,
    take_apart,
    unpack,
)
from model_cache.entries.forms import Form, Forms, forms_of
from model_cache.entries.row_entries import RowResult, RowsSerder
from model_cache.entries.serders import JSON, PLAIN, SERDERS, VALUES
from model_cache.entries.unset_fields import mark_unset
from model_cache.entries.values import PythonValues, Result
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS
from model_cache.protocols import Clock, Compressor, Serder


class Refusal(Enum):
    """Why a prediction can't be stored."""

    LOSSY = "it changes when stored and read back"
    TOO_LARGE = "its entry is larger than max_entry_bytes"


class EntryRefusedError(Exception):
    """A prediction can't be stored; `reason` says why."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(reason.value + (f": {detail}" if detail else ""))
        self.reason = reason


class Read(NamedTuple):
    """A decoded entry.

    Attributes:
        prediction: the prediction, a new object each time; None if the entry can't be decoded.
            A function's is a `Result`.
        fresh: whether it may be a hit. If not, it may still be returned when the model raises.
        seconds: how long it stays fresh, 0 or less if it is stale; None for no limit.
    """

    prediction: BaseModel | Any | None
    fresh: bool
    seconds: float | None = None


_UNREADABLE = Read(None, False)


class Codec:
    """Encodes predictions of one schema and decodes entries.

    Args:
        schema: the schema of the predictions; `Result` for those of a function.
        serder: the serder for writing; entries of any registered serder can be read. Functions use
            `PythonValues(classes)`, and read only its entries.
        compressor: the compressor for writing, used where it makes entries smaller; None for none.
        max_entry_bytes: larger entries are not written, and are misses when read.
        integrity: whether entries carry a tag; entries without a valid tag are misses.
        tag_key: keys the tag, so that entries can't be forged.
        cipher: encrypts entries; those that it can't decrypt are misses. It has tags of its own.
        ttl: the longest time that an entry may claim to stay fresh, in milliseconds; None for no
            limit. It limits the effect of a writer whose clock is ahead.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        schema: type[BaseModel | Result | RowResult],
        *,
        serder: Serder = JSON,
        compressor: Compressor | None = None,
        max_entry_bytes: int = 2**20,
        integrity: bool = False,
        tag_key: bytes = b"",
        cipher: Cipher | None = None,
        ttl: int | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._schema: type[Any] = schema
        # MessagePack preserves what JSON would lose (NaN, infinities, bytes); for very large
        # ints, and schemas with strict types, it is the other way round.
        self._serder = serder
        # A wrapper's serder is the only one that can read its entries.
        self._only = serder if isinstance(serder, (PythonValues, RowsSerder)) else None
        self._forms = Forms([Form(serder)] if self._only else forms_of(serder))
        self._compressor = compressor
        self._max_entry_bytes = max_entry_bytes
        self._max_payload = max(MAX_PAYLOAD, max_entry_bytes)
        self._integrity = integrity and cipher is None
        self._tag_key = tag_key
        self._cipher = cipher
        self._takes_plain = not (integrity or cipher is not None or self._only is not None)
        self._ttl = ttl
        self._clock = clock

    def encode(
        self, key: bytes, prediction: BaseModel | Result | RowResult, fresh_until: int | None = None
    ) -> bytes:
        """Return the entry for a prediction.

        Args:
            key: the key of the entry.
            prediction: the model's prediction.
            fresh_until: when it becomes stale, in milliseconds since 1970; None for never.

        Raises:
            EntryRefusedError: the prediction would change, or its entry is too large.
        """
        forms = self._forms.to_try()
        if not forms:
            raise EntryRefusedError(Refusal.LOSSY, self._forms.reason)
        # First, since a dump would exhaust an iterator, which has no canonical form.
        expected = self._canonical(prediction)
        reasons: dict[str, Callable[[], str]] = {}
        for form in forms:
            try:
                entry = self._entry(form, key, prediction, fresh_until)
                if entry is None:
                    continue
                restored = self._open(key, entry)
                if equals(restored, prediction, expected):
                    self._forms.worked(form)
                    return entry
                reasons[form.serder.name] = partial(difference, prediction, restored)
            except EntryRefusedError:
                raise
            except Exception as error:  # from a user's schema or serder
                reraise_interruption(error)
                if form.serder is not VALUES:  # other forms are tried too, and name the field
                    reasons[form.serder.name] = partial(_failure, prediction, error)
        if type(prediction) is not self._schema:
            given, wanted = type(prediction).__qualname__, self._schema.__qualname__
            raise self._lossy(f"it is a {given}, not a {wanted}")
        raise self._lossy(_joined({name: _explained(why) for name, why in reasons.items()}))

    def _canonical(self, prediction: Any) -> bytes:
        try:
            return PREDICTIONS.encode(prediction)
        except NotCacheableError as error:
            reraise_interruption(error.__cause__ or error)
            if inspect.isawaitable(prediction):
                detail = "the model is asynchronous; use `await model.apredict(data)`"
                raise EntryRefusedError(Refusal.LOSSY, detail) from None
            why = partial(not_comparable, prediction, error)
            raise self._lossy(_explained(why, str(error))) from None

    def _entry(
        self, form: Form, key: bytes, prediction: Any, fresh_until: int | None
    ) -> bytes | None:
        """Return a prediction's entry in a form; None if it has no such form."""
        dumped = form.dumps(prediction)
        if dumped is None:
            return None
        entry = self._smallest(key, form.serder, *dumped, fresh_until)
        if len(entry) > self._max_entry_bytes:
            raise EntryRefusedError(Refusal.TOO_LARGE)
        return entry

    def _lossy(self, detail: str) -> EntryRefusedError:
        self._forms.failed(detail)
        return EntryRefusedError(Refusal.LOSSY, detail)

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return an entry's prediction, and whether it is fresh.

        It can't be decoded if it is truncated, corrupt, foreign, forged, or of another schema.
        """
        try:
            prediction = self._open(key, entry)
        except Exception as error:  # Redis is untrusted; a user's validators may raise anything
            reraise_interruption(error)
            return _UNREADABLE
        if entry[0] != MARK:
            return Read(prediction, True)
        left = self.fresh_for(entry)
        return Read(prediction, left is None or left > 0, left)

    def reader(self, key: bytes, entry: bytes) -> Callable[[], Any]:
        """Return what decodes an entry, one that `read` has read, to a new object each time."""
        if self._only is not None:
            head, _, data = take_apart(entry)
            if not (head[3] or head[4] & ENCRYPTED):  # neither compressed nor encrypted
                return self._only.reader(data, self._schema)
        elif PLAIN.get(entry[0]) is JSON:
            return JSON.reader(entry, self._schema)
        return partial(self._open, key, entry)

    def fresh_for(self, entry: bytes) -> float | None:
        """Return how many seconds an entry stays fresh: 0 or less if stale, None for no limit.

        An entry never counts as fresh for longer than its reader's ttl.
        """
        until = fresh_until_of(entry) if entry[0] == MARK else None
        if until is None:
            return None
        left = until - 1000 * self._clock()
        return left / 1000 if self._ttl is None or left <= self._ttl else 0.0

    def decode(self, key: bytes, entry: bytes) -> Any:
        """Return an entry's prediction, a new object each time; None if it can't be decoded."""
        return self.read(key, entry).prediction

    def _smallest(
        self, key: bytes, serder: Serder, data: bytes, flags: int, fresh_until: int | None
    ) -> bytes:
        if len(data) > self._max_payload:
            raise EntryRefusedError(Refusal.TOO_LARGE)
        plain = (
            self._takes_plain
            and (serder is self._serder or self._serder is VALUES)
            and not flags
            and fresh_until is None
            and data != b""
            and PLAIN.get(data[0]) is serder
        )
        if plain and self._compressor is None:
            return data
        until = b""
        if fresh_until is not None:
            flags, until = flags | TIMED, fresh_until.to_bytes(TIME_SIZE)
        if self._integrity:
            flags |= TAGGED
        if self._cipher is not None:
            flags |= ENCRYPTED

        def seal(compressor: int, payload: bytes) -> bytes:
            head = bytes((MARK, VERSION, serder.id, compressor, flags)) + until
            if self._cipher is not None:
                return head + self._cipher.encrypt(key, head, payload)
            tag = tag_of(self._tag_key, key, head, payload) if self._integrity else b""
            return b"%b%b%b" % (head, tag, payload)

        entry = data if plain else seal(0, data)
        if self._compressor is not None:
            compressed = seal(self._compressor.id, self._compressor.compress(data))
            entry = min(entry, compressed, key=len)
        return entry

    def _open(self, key: bytes, entry: bytes) -> Any:
        if len(entry) > self._max_entry_bytes:
            raise ValueError("larger than max_entry_bytes")
        first = entry[0]
        if first == MARK:
            prediction = self._unseal(key, entry)
        elif not self._takes_plain:
            raise ValueError("no envelope, so neither tagged nor encrypted")
        else:
            prediction = PLAIN[first].loads(entry, self._schema)
        if type(prediction) is not self._schema:
            raise TypeError("not an instance of the output schema")
        return prediction

    def _unseal(self, key: bytes, entry: bytes) -> Any:
        head, tag, data = take_apart(entry)
        if bool(head[4] & ENCRYPTED) is not (self._cipher is not None):
            raise ValueError("encrypted without need, or not encrypted")
        if self._cipher is not None:
            data = self._cipher.decrypt(key, head, data)
        elif tag:
            if not hmac.compare_digest(tag, tag_of(self._tag_key, key, head, data)):
                raise ValueError("wrong tag")
        elif self._integrity:
            raise ValueError("no tag")
        unset, data = unpack(head, data, self._max_payload)
        if self._only is not None:
            if head[2] != self._only.id or unset:
                raise ValueError("written by another serder")
            return self._only.loads(data, self._schema)
        prediction = SERDERS.numbered(head[2]).loads(data, self._schema)
        if unset:
            mark_unset(prediction, unset)
        return prediction


def equals(restored: Any, prediction: Any, expected: bytes | None = None) -> bool:
    """Return whether a decoded prediction is the same as the model's.

    Args:
        restored: the decoded prediction.
        prediction: the model's.
        expected: its canonical bytes, if they are known.

    Raises:
        NotCacheableError: it has no canonical form.
    """
    expected = PREDICTIONS.encode(prediction) if expected is None else expected
    return PREDICTIONS.encode(restored) == expected or (
        settle(prediction, restored) and PREDICTIONS.encode(restored) == expected
    )


def _explained(why: Callable[[], str], otherwise: str = "it changes") -> str:
    """Return the explanation of `why`, which inspects arbitrary values, so it may raise."""
    try:
        return why()
    except Exception as error:
        reraise_interruption(error)
        return otherwise


def _failure(prediction: Any, error: Exception) -> str:
    if type(prediction) is Result:
        return not_storable(prediction, error)
    return not_readable(error) or not_writable(prediction, error)


def _joined(reasons: dict[str, str]) -> str:
    """Return the reason of each serder, or a single one if all are the same."""
    if len(set(reasons.values())) <= 1:
        return next(iter(reasons.values()), "")
    return "; ".join(f"as {name}, {reason}" for name, reason in reasons.items())
