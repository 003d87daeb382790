"""Record requests for `model-cache advise`: all requests of a share of the keys.

Sampling by key preserves the reuse of these keys (SHARDS: Waldspurger et al., FAST 2015). A
prediction takes longer by a hash of its key and, if sampled, by a copy of its input as JSON. A
background thread writes the requests. If it fails, it counts them, and predictions continue.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import threading
import time
from _thread import LockType
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

from pydantic_core import to_json

from model_cache.binding import Bound, Current
from model_cache.binding.recorded import rows_of
from model_cache.errors import NotCacheableError
from model_cache.exits import run_at_exit
from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption
from model_cache.keys.key import derived_key
from model_cache.observing.counters import Counters
from model_cache.observing.events import Hook, RequestsNotRecorded
from model_cache.observing.request_log import FORMAT, HEADER, Recording, RequestLog
from model_cache.observing.scope import requested_mode
from model_cache.prediction.background import BackgroundWriter
from model_cache.prediction.table_call import TableCall
from model_cache.redaction import KeySecret
from model_cache.stores.threads import held_lock

INTERVAL = 1.0
"""Seconds from the first waiting request to the write."""

MOST_WAITING = 10_000
MOST_BYTES = 16 * 2**20
"""How many requests may wait to be written, and how many bytes; further ones are dropped."""

# Seconds without an attempt after a failed write: the next one would most likely fail, too.
_PAUSE = 60.0
_PATIENCE = 2.0  # seconds that `flush` waits
_KEYS = 2**64
# What a file says how many of there were: all, those without a place to wait, and those that could
# not be written as JSON.
_COUNTS = ("requests", "dropped", "unrecordable")
_draw = random.SystemRandom().getrandbits

Lines = Callable[[], Sequence[bytes]]

_living: WeakSet[Recorder] = WeakSet()


def flush_recorders() -> None:
    """Write the waiting requests of all recorders in this process."""
    for recorder in list(_living):
        recorder.flush()


class _Waiting(NamedTuple):
    """Requests that wait to be written.

    Attributes:
        recording: what they belong to.
        lines: returns their lines.
        number: how many there are.
        end: the bytes of all that were queued up to here, including these.
    """

    recording: Recording
    lines: Lines
    number: int
    end: int


class Recorder:
    """Records the requests of one decorator.

    Args:
        folder: the folder to write to.
        share: the share of the keys whose requests are recorded.
        current: holds the binding of the requests.
        counters: counts the recorded and the unrecorded requests.
        hook: receives failures.
        secret: keys the hashes that sample keys; these also cover secret values.
        interval: seconds to wait for more requests before they are written.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        share: float,
        current: Current,
        counters: Counters,
        hook: Hook,
        secret: KeySecret | None = None,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = RequestLog(folder)
        self._share = share
        self._limit = round(share * _KEYS)
        self._current = current
        self._counters = counters
        self._hook = hook
        # Not `hash`, which differs between processes.
        key = derived_key(secret, b"model_cache log")
        self._hasher = hashlib.blake2b(digest_size=8, key=key)
        self._interval = interval
        self._clock = clock
        self._recordings: tuple[Bound | None, Recording | None] = (None, None)
        self._writer = BackgroundWriter(max_jobs=1, flush_seconds=_PATIENCE)
        self.after_fork()
        renew_after_fork(self)
        run_at_exit(self)  # before the writer, which would wait for the interval
        _living.add(self)

    def after_fork(self) -> None:
        """Drop the waiting requests, because the parent writes them."""
        self._lock = threading.RLock()  # a signal handler may predict while this thread queues
        self._waiting: deque[_Waiting] = deque()
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._will_write_until = 0.0
        self._paused_until = 0.0
        self._bell = held_lock()  # released to have the thread write at once

    def saw(self, data: Any) -> None:
        """Record a request if its key is sampled; never raise an error of its own."""
        if requested_mode() is not None or (binding := self._current.binding) is None:
            return
        self._add("requests", 1)
        try:
            key = self._key(binding, data)
            if key < self._limit:
                line = _line(self._clock(), key, binding.recorded(data))
                self._queue(binding, lambda: (line,), 1, len(line))
        except Exception as error:
            reraise_interruption(error)
            self._add("unrecordable", 1)

    def saw_table(self, call: TableCall) -> None:
        """Record the rows of a table whose keys are sampled; never raise an error of its own."""
        if requested_mode() is not None or (binding := self._current.binding) is None:
            return
        self._add("requests", call.size)
        sampled = round(call.size * self._share)  # until the keys say how many
        try:
            table = call.table
            if table is None:
                raise NotCacheableError(call.reason)
            forms = table.rows()
            keys = [self._key_of(call.head + form) for form in forms]
            places = [place for place, key in enumerate(keys) if key < self._limit]
            sampled = len(places)
            if places:
                rows = rows_of(table.take(places))
                make = partial(_lines, self._clock(), [keys[place] for place in places], rows)
                self._queue(binding, make, sampled, sum(len(forms[place]) for place in places))
        except Exception as error:
            reraise_interruption(error)
            self._add("unrecordable", sampled)

    def _key(self, binding: Bound, data: Any) -> int:
        try:
            return self._key_of(binding.canonical(binding.rounded(data)))
        except NotCacheableError:  # never a hit: a key of its own
            return _draw(64)

    def _key_of(self, form: bytes) -> int:
        hasher = self._hasher.copy()
        hasher.update(form)
        return int.from_bytes(hasher.digest())

    def _add(self, name: str, number: int) -> None:
        with self._lock:
            self._counts[name] += number

    def _queue(self, binding: Bound, lines: Lines, count: int, size: int) -> None:
        recording = self._recording(binding)
        with self._lock:
            waiting = self._waiting
            end = size + (waiting[-1].end if waiting else 0)
            is_full = len(waiting) >= MOST_WAITING or (bool(waiting) and end > MOST_BYTES)
            if not is_full:
                waiting.append(_Waiting(recording, lines, count, end))
        if is_full:
            self._add("dropped", count)
            self._counters.of(binding.qualified_name, binding.version).add(unrecorded=count)
        elif len(waiting) > MOST_WAITING // 2 or end > MOST_BYTES // 2:
            self._ring()
        now = time.monotonic()
        if now >= self._will_write_until:
            self._will_write_until = now + 2 * self._interval
            bell = held_lock()
            if self._writer.submit(partial(self._write_later, bell)):
                self._bell = bell

    def _ring(self) -> None:
        # Not an `Event`, whose own lock a signal handler that predicts would wait for.
        if self._bell.locked():
            with contextlib.suppress(RuntimeError):  # released meanwhile
                self._bell.release()

    def _recording(self, binding: Bound) -> Recording:
        known, recording = self._recordings
        if recording is None or known is not binding:
            header = {
                HEADER: FORMAT,
                "model": binding.qualified_name,
                "version": binding.version,
                "share": self._share,
                "left_out": list(binding.left_out),
            }
            line = json.dumps(header).encode() + b"\n"
            recording = Recording(binding.qualified_name, line)
            self._recordings = binding, recording
        return recording

    def _write_later(self, bell: LockType) -> None:
        bell.acquire(timeout=self._interval)
        self._write()

    def _write(self) -> None:
        """Write the waiting requests, and the number of requests since the last time."""
        self._will_write_until = 0.0
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        groups = [
            (recording, list(each))
            for recording, each in itertools.groupby(waiting, lambda item: item.recording)
        ]
        if not groups and (binding := self._current.binding) is not None:
            groups = [(self._recording(binding), [])]
        if time.monotonic() < self._paused_until:
            self._take_counts()
            self._count(unrecorded=sum(each.number for each in waiting))
            return
        for number, (recording, items) in enumerate(groups, 1):
            self._write_group(recording, items, is_last=number == len(groups))

    def _write_group(
        self, recording: Recording, items: Sequence[_Waiting], *, is_last: bool
    ) -> None:
        lines: list[bytes] = []
        for item in items:
            try:
                lines += item.lines()
            except Exception as error:  # the table has values without JSON
                reraise_interruption(error)
                self._add("unrecordable", item.number)
        count = len(lines)
        counts = self._take_counts() if is_last else None
        if counts is not None:
            lines.append(json.dumps(counts).encode() + b"\n")
        if not lines:
            return
        try:
            self._log.write(recording, lines)
        except OSError as error:
            self._paused_until = time.monotonic() + _PAUSE
            self._count(unrecorded=count)
            reason = error.strerror or type(error).__name__
            self._hook(RequestsNotRecorded(recording.name, str(self._log.folder), reason))
        else:
            self._count(recorded=count)

    def _take_counts(self) -> dict[str, int] | None:
        """Return the counts since the last time; None if all are 0."""
        with self._lock:
            counts, self._counts = self._counts, dict.fromkeys(_COUNTS, 0)
        self._count(unrecorded=counts["unrecordable"])
        return counts if any(counts.values()) else None

    def _count(self, **amounts: int) -> None:
        binding = self._current.binding
        if binding is not None and any(amounts.values()):
            self._counters.of(binding.qualified_name, binding.version).add(**amounts)

    def flush(self) -> None:
        """Write the waiting requests, or give up after two seconds."""
        self._ring()
        self._writer.submit(self._write)
        # Without a thread nothing is written: a disk that hangs would block the caller.
        self._writer.flush()

    def at_exit(self) -> None:
        """Write the waiting requests, or give up after two seconds."""
        self.flush()


def _line(now: float, key: int, request: Any) -> bytes:
    values = to_json(request, inf_nan_mode="constants")
    return b'{"time":%.6f,"key":%d,"request":%b}\n' % (now, key, values)


def _lines(now: float, keys: Iterable[int], rows: Callable[[], Sequence[Any]]) -> list[bytes]:
    return [_line(now, key, row) for key, row in zip(keys, rows(), strict=True)]
