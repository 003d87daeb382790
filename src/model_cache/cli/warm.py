"""`warm`: has a model predict the requests in a file, so that their predictions are cached.

The cache is the record of what is done: after an interruption, a second run finds the predictions
of the first one and computes the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from ml_base.ml_model import MLModel
from pydantic import ValidationError

from model_cache.advisor.request_file import Csv, JsonLines, Line, reason
from model_cache.cli.loading import caches_of
from model_cache.cli.rejected import RejectedFile
from model_cache.decorator import RedisCachingDecorator
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.observing.counters import COUNTS, Stats
from model_cache.protocols import Clock
from model_cache.words import count

# Lines that are read ahead, to keep the threads busy.
_LINES_PER_THREAD = 32
# The most lines that are read ahead, and those between two flushes: together no more than the
# writes that a decorator queues.
_MAX_LINES = 500
_SECONDS_BETWEEN_LOOKS = 0.2
# Closing a decorator that writes in the background takes two seconds at most, done or not.
_MAX_CLOSES = 5

_COUNTED = {
    "present": ("hits", "shared"),
    "computed": ("misses", "uncacheable"),
    "stale": ("stale",),
    "stored": ("stored",),
    "skipped": ("skipped",),
    "not_stored": ("lossy", "too_large", "uncacheable"),
}


@dataclass(frozen=True)
class Report:
    """The result of a run.

    Attributes:
        model: the qualified name.
        version: the model's version.
        store: where the entries are.
        requests: how many requests there were, blank lines not counted.
        present: how many were cached already, or equal to another one of this run.
        computed: how many the model predicted.
        stored: how many predictions were stored.
        skipped: how many were not, because of `cache_if` or `do_not_store()`.
        not_stored: how many can't be: too large, lossy, or an input without a key.
        stale: how many have only a stale entry, because the model raised.
        rejected: how many were invalid, or made the model raise.
        rejected_file: where these are; None if there are none.
        seconds: how long the run took.
    """

    model: str
    version: str
    store: str
    requests: int
    present: int
    computed: int
    stored: int
    skipped: int
    not_stored: int
    stale: int
    rejected: int
    rejected_file: str | None
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether every prediction is cached, except those that are skipped on purpose."""
        return not (self.rejected or self.stale or self.not_stored)


class _Caches:
    """The caches around a model, and what they have counted since the run began."""

    def __init__(self, model: MLModel) -> None:
        self._caches = caches_of(model)
        self._before = [cache.stats() for cache in self._caches]
        self.store = self._caches[0].cache_settings.store

    def counted(self) -> dict[str, int]:
        """Return the counts of the outermost cache, by the names of the report."""
        counts = _since(self._caches[0].stats(), self._before[0])
        return {name: sum(counts[each] for each in of) for name, of in _COUNTED.items()}

    def check(self) -> None:
        """Raise if a store failed, since all further writes would fail, too."""
        for cache, before in zip(self._caches, self._before, strict=True):
            counts = _since(cache.stats(), before)
            if counts["unavailable"]:
                raise StoreUnavailableError("Redis is unavailable", "unavailable")
            if counts["write_failures"]:
                raise StoreUnavailableError("Redis does not accept new entries", "write")

    def flush(self) -> None:
        """Wait for entries that are written in the background."""
        for cache, before in zip(self._caches, self._before, strict=True):
            if cache.cache_settings.write == "background":
                _flush(cache, before)

    def close(self) -> None:
        for cache in self._caches:
            cache.close()


def _flush(cache: RedisCachingDecorator, before: Stats) -> None:
    for _ in range(_MAX_CLOSES):
        cache.close()
        counts = _since(cache.stats(), before)
        ended = ("stored", "skipped", "lossy", "too_large", "write_failures")
        if sum(counts[each] for each in ended) >= counts["misses"]:
            return
    raise StoreUnavailableError("Redis can't keep up with the writes", "timeout")


def _since(stats: Stats, before: Stats) -> dict[str, int]:
    return {name: int(getattr(stats, name) - getattr(before, name)) for name in COUNTS}


def warm(
    model: MLModel,
    requests: JsonLines | Csv,
    rejected: RejectedFile,
    *,
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
    tell: Callable[[int, int], None] = lambda _size, _line: None,
    clock: Clock = time.monotonic,
) -> Report:
    """Fill the caches around a model; `tell` is called with the bytes and lines that are done.

    Raises:
        StoreUnavailableError: Redis failed or does not accept new entries.
    """
    started, caches, progress = clock(), _Caches(model), _Progress(tell, clock)
    try:
        with closing(_attempts(model, requests, threads, caches.flush)) as attempts:
            for line, problem in attempts:
                if problem is not None:
                    rejected.add(line.number, problem, line.text)
                if progress.add(line):
                    caches.check()
        caches.check()
    except BaseException:
        done = count(progress.requests, "request")
        say(f"stopped after {done}; run it again to do the rest")
        raise
    finally:
        caches.close()
    return Report(
        model=model.qualified_name,
        version=model.version,
        store=caches.store,
        requests=progress.requests,
        rejected=rejected.count,
        rejected_file=str(rejected.path) if rejected.count else None,
        seconds=clock() - started,
        **caches.counted(),
    )


class _Progress:
    """Tracks the progress of a run and reports it a few times a second."""

    def __init__(self, tell: Callable[[int, int], None], clock: Clock) -> None:
        self.requests = 0
        self._size = 0
        self._tell = tell
        self._clock = clock
        self._told = clock()

    def add(self, line: Line) -> bool:
        """Count a line; return whether it is time to look after the caches, too."""
        self.requests += 1
        self._size += len(line.raw)
        now = self._clock()
        if now - self._told < _SECONDS_BETWEEN_LOOKS:
            return False
        self._tell(self._size, line.number)
        self._told = now
        return True


def _attempts(
    model: MLModel, requests: JsonLines | Csv, threads: int, flush: Callable[[], None]
) -> Generator[tuple[Line, str | None]]:
    """Predict the requests in order; yield each with the reason if it can't be predicted."""

    def attempt(line: Line) -> str | None:
        if line.problem is not None:
            return line.problem
        try:
            model.predict(requests.parse(line.request))
        except ValidationError as error:
            return reason(error)
        except StoreUnavailableError:
            raise
        except Exception as error:
            reraise_interruption(error)
            return f"the model raised {type(error).__name__}: {error}"
        return None

    lines = (line for line in requests if not line.is_blank)
    with closing(_mapped(attempt, lines, threads)) as attempts:
        for number, each in enumerate(attempts, 1):
            yield each
            if number % _MAX_LINES == 0:
                flush()
    flush()


def _mapped(
    attempt: Callable[[Line], str | None], lines: Iterator[Line], threads: int
) -> Generator[tuple[Line, str | None]]:
    """Yield each line with its attempt, made in threads if there are several."""
    if threads == 1:  # in this thread, where Ctrl-C interrupts the model
        for line in lines:
            yield line, attempt(line)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        while some := list(islice(lines, min(_LINES_PER_THREAD * threads, _MAX_LINES))):
            yield from zip(some, pool.map(attempt, some), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
