"""Entries: what Redis holds for a prediction, and how it is read again.

A prediction that its serder dumps to an object is stored as that plain JSON or MessagePack.
Anything else is an envelope (see `envelope`).

Entries are verified on write: one that does not decode to what the model returned is refused.
On read, whatever can't be decoded is a miss. Redis and its keys' making are unknown here.
"""

from __future__ import annotations

import hmac
import inspect
import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import NamedTuple, TypeAlias

import msgpack
from pydantic import BaseModel

from model_cache.entries.cached_properties import settle
from model_cache.entries.differences import difference, not_comparable, not_readable, not_writable
from model_cache.entries.envelope import (
    HEAD_SIZE,
    MAPS,
    MARK,
    MAX_PAYLOAD,
    OBJECT,
    TAGGED,
    TIME_SIZE,
    TIMED,
    UNSET,
    VERSION,
    fresh_until_of,
    tag_of,
    take_apart,
    unpack,
)
from model_cache.entries.serders import JSON, MESSAGE_PACK, SERDERS
from model_cache.entries.unset_fields import all_set, mark_unset, unset_fields
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS
from model_cache.protocols import Clock, Compressor, Serder

# So many predictions in a row that are refused, and only one of so many is tried after that.
_FAILURES = 8
_TRIED_OF_FAILING = 16
# So many in a row that do not take the first form, and another is tried first for a while.
_MISLED = 3
_PREDICTIONS_OF_AN_ORDER = 256


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
    if entry[0] != MARK or not entry[4] & TIMED:
        return True
    return 1000 * clock() < int.from_bytes(entry[HEAD_SIZE : HEAD_SIZE + TIME_SIZE])


class Read(NamedTuple):
    """What an entry holds for a reader.

    Attributes:
        prediction: the prediction, a new object each time; None if the entry can't be decoded.
        fresh: whether it may be a hit. If not, it may still answer when the model raises.
    """

    prediction: BaseModel | None
    fresh: bool


_Dump: TypeAlias = Callable[[Serder, BaseModel], tuple[bytes, int] | None]
_Form: TypeAlias = tuple[Serder, _Dump]


def _dumped(serder: Serder, prediction: BaseModel) -> tuple[bytes, int]:
    return serder.dumps(prediction), 0


def _dumped_with_unset(serder: Serder, prediction: BaseModel) -> tuple[bytes, int] | None:
    unset = unset_fields(prediction)
    if not unset:
        return None  # nothing was left out the first time
    noted: bytes = msgpack.packb(unset)
    data = serder.dumps(all_set(prediction))
    return b"%b%b%b" % (len(noted).to_bytes(2), noted, data), UNSET


class _Forms:
    """The forms that an entry may take, and what is known of them.

    Each one that fails costs a dump, a load and a comparison. So a form that works where the
    first one fails is soon tried first, and predictions that no form takes are soon tried only
    now and then. Threads may share it: a count that is lost does no harm.

    Args:
        forms: the forms, the best one first.

    Attributes:
        reason: why the last prediction was refused that no form takes.
    """

    def __init__(self, forms: Sequence[_Form]) -> None:
        self.reason = ""
        self._best = self._order = tuple(forms)
        self._tried = self._misled = self._failed = 0

    def seem_hopeless(self) -> bool:
        """Whether a prediction is not worth trying, since so many before it were refused."""
        if self._failed < _FAILURES:
            return False
        self._failed += 1
        return self._failed % _TRIED_OF_FAILING != 0

    def in_order(self) -> Sequence[_Form]:
        """Return the forms in the order in which to try them."""
        self._tried += 1
        if self._tried % _PREDICTIONS_OF_AN_ORDER == 0:
            self._order, self._misled = self._best, 0
        return self._order

    def worked(self, form: _Form) -> None:
        """Note that a prediction took a form."""
        self._failed = 0
        if form is self._order[0]:
            self._misled = 0
            return
        self._misled += 1
        if self._misled >= _MISLED:
            self._order = (form, *(each for each in self._best if each is not form))

    def failed(self, reason: str) -> None:
        """Note that no form took a prediction."""
        self.reason = reason
        self._failed += 1


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
        self._serder, other = serder, JSON if serder is MESSAGE_PACK else MESSAGE_PACK
        self._forms = _Forms(
            [(each, dump) for each in (serder, other) for dump in (_dumped, _dumped_with_unset)]
        )
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
        if self._forms.seem_hopeless():
            raise EntryRefusedError(Refusal.LOSSY, self._forms.reason)
        try:
            # First: a dump would use up an iterator, and an iterator has no canonical form.
            expected = PREDICTIONS.encode(prediction)
        except NotCacheableError as error:
            reraise_interruption(error.__cause__ or error)
            if inspect.isawaitable(prediction):
                detail = "the model is asynchronous; use `await model.apredict(data)`"
                raise EntryRefusedError(Refusal.LOSSY, detail) from None
            why = partial(not_comparable, prediction, error)
            raise self._lossy(_explained(why, str(error))) from None
        reasons: dict[str, Callable[[], str]] = {}
        for form in self._forms.in_order():
            serder, dump = form
            try:
                dumped = dump(serder, prediction)
                if dumped is None:
                    continue
                entry = self._smallest(key, serder, *dumped, fresh_until)
                if len(entry) > self._max_entry_bytes:
                    raise EntryRefusedError(Refusal.TOO_LARGE)
                restored = self._open(key, entry)
                if PREDICTIONS.encode(restored) == expected or (
                    settle(prediction, restored) and PREDICTIONS.encode(restored) == expected
                ):
                    self._forms.worked(form)
                    return entry
                reasons[serder.name] = partial(difference, prediction, restored)
            except EntryRefusedError:
                raise
            except Exception as error:  # whatever a schema or a serder of the user's raises
                reraise_interruption(error)
                reasons[serder.name] = partial(_failure, prediction, error)
        if type(prediction) is not self._schema:
            given, wanted = type(prediction).__qualname__, self._schema.__qualname__
            raise self._lossy(f"it is a {given}, not a {wanted}")
        raise self._lossy(_joined({name: _explained(why) for name, why in reasons.items()}))

    def _lossy(self, detail: str) -> EntryRefusedError:
        self._forms.failed(detail)
        return EntryRefusedError(Refusal.LOSSY, detail)

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return the prediction that an entry holds, and whether it is fresh."""
        prediction = self.decode(key, entry)
        return Read(prediction, prediction is not None and self._is_fresh(entry))

    def _is_fresh(self, entry: bytes) -> bool:
        until = fresh_until_of(entry) if entry[0] == MARK else None
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
        except Exception as error:  # Redis is untrusted; a user's validators may raise anything
            reraise_interruption(error)
            return None

    def _smallest(
        self, key: bytes, serder: Serder, data: bytes, flags: int, fresh_until: int | None
    ) -> bytes:
        if len(data) > self._max_payload:
            raise EntryRefusedError(Refusal.TOO_LARGE)
        plain = (
            serder is self._serder
            and not (self._integrity or flags)
            and fresh_until is None
            and (
                (serder is JSON and data[0] == OBJECT)
                or (serder is MESSAGE_PACK and data[0] in MAPS)
            )
        )
        until = b""
        if fresh_until is not None:
            flags, until = flags | TIMED, fresh_until.to_bytes(TIME_SIZE)
        if self._integrity:
            flags |= TAGGED

        def seal(compressor: int, payload: bytes) -> bytes:
            head = bytes((MARK, VERSION, serder.id, compressor, flags)) + until
            tag = tag_of(self._tag_key, key, head, payload) if self._integrity else b""
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
        if first == MARK:
            prediction = self._unseal(key, entry)
        elif self._integrity:
            raise ValueError("no tag")
        elif first == OBJECT:
            prediction = JSON.loads(entry, self._schema)
        elif first in MAPS:
            prediction = MESSAGE_PACK.loads(entry, self._schema)
        else:
            raise ValueError("neither an object nor an envelope")
        if type(prediction) is not self._schema:
            raise TypeError("not of the output schema")
        return prediction

    def _unseal(self, key: bytes, entry: bytes) -> BaseModel:
        head, tag, data = take_apart(entry)
        if tag:
            if not hmac.compare_digest(tag, tag_of(self._tag_key, key, head, data)):
                raise ValueError("wrong tag")
        elif self._integrity:
            raise ValueError("no tag")
        unset, data = unpack(head, data, self._max_payload)
        prediction = SERDERS.numbered(head[2]).loads(data, self._schema)
        if unset:
            mark_unset(prediction, unset)
        return prediction


def _explained(why: Callable[[], str], otherwise: str = "it comes back changed") -> str:
    """Return what `why` finds out, which goes through whatever the model returned."""
    try:
        return why()
    except Exception as error:
        reraise_interruption(error)
        return otherwise


def _failure(prediction: BaseModel, error: Exception) -> str:
    return not_readable(error) or not_writable(prediction, error)


def _joined(reasons: dict[str, str]) -> str:
    """Return why each serder was of no use: once, if it is the same for all."""
    if len(set(reasons.values())) <= 1:
        return next(iter(reasons.values()), "")
    return "; ".join(f"as {name}, {reason}" for name, reason in reasons.items())
