"""`warm`: has a model predict the requests in a file, so that their predictions are cached.

Whatever is interrupted goes on where it stopped; whatever can't be predicted is written down.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ml_base.ml_model import MLModel
from pydantic import ValidationError

from model_cache.cli.loading import caches_of
from model_cache.cli.requests import Format, Line, RequestFile, reason
from model_cache.cli.resuming import Consumed, Progress, ProgressFile, Rejected, advanced, consumed
from model_cache.decorator import RedisCachingDecorator
from model_cache.errors import ConfigurationError, NotCacheableError, StoreUnavailableError
from model_cache.protocols import Clock
from model_cache.statistics import Stats

# So many lines per thread at most, and seconds, between two looks at what became of them.
_CHUNK = 32
_BETWEEN_SAVES = 1.0
# Lines in which to look for a request that has a key.
_SEARCHED = 1000
# A decorator that writes in the background closes within two seconds, done or not.
_MOST_CLOSES = 5

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
    """What became of the requests, those of interrupted runs included.

    Attributes:
        model: the qualified name.
        version: the model's.
        store: where the entries are.
        requests: how many there were, blank lines not counted.
        present: whose prediction was cached already, or equal to another's of this run.
        computed: which the model predicted.
        stored: how many predictions were stored.
        skipped: how many were not, on the word of `cache_if` or `do_not_store()`.
        not_stored: how many can't be: too large, would come back changed, inputs without a key.
        stale: for which the model raised, and an entry past its ttl is all there is.
        rejected: which were no requests, or for which the model raised.
        rejected_file: where these are; None if there are none.
        resumed_at: how many lines earlier runs had done.
        seconds: how long this run took.
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
    resumed_at: int
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether each request has its prediction in the cache, but for those that are not to."""
        return not (self.rejected or self.stale or self.not_stored)


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        model: with a cache around it, and maybe more decorators.
        source: the file of requests; None for standard input.
        form: of the file.
        rejected: where to write what can't be predicted.
        threads: how many predictions to make at once.
        restart: whether to forget what earlier runs have done.
    """

    model: MLModel
    source: Path | None
    form: Format
    rejected: Path
    threads: int = 1
    restart: bool = False

    @property
    def can_be_resumed(self) -> bool:
        """Whether the requests can be read a second time; a pipe can't."""
        return self.source is not None and self.source.is_file()

    @property
    def progress_file(self) -> ProgressFile | None:
        """Where progress is kept."""
        if self.source is None or not self.can_be_resumed:
            return None
        return ProgressFile(self.source.with_name(self.source.name + ".warm-progress"))


def warm(
    job: Job,
    say: Callable[[str], None],
    tell: Callable[[int, int], None] = lambda _size, _line: None,
    clock: Clock = time.monotonic,
) -> Report:
    """Fill the cache.

    Args:
        job: what to do.
        say: is told what people should know.
        tell: is told how many bytes and lines of the file are done.
        clock: seconds, as `time.monotonic`.

    Raises:
        ConfigurationError: there is no such file, or it has no header; or the file for what is
            rejected is somebody else's.
        StoreUnavailableError: Redis failed, or takes no more; the progress is kept.
    """
    started = clock()
    caches = caches_of(job.model)
    if job.source is not None and job.source.resolve() == job.rejected.resolve():
        raise ConfigurationError("--rejected", "is the file of the requests itself")
    with _opened(job) as stream:
        requests = RequestFile(stream, job.form, job.model.input_schema)
        if requests.unknown_columns:
            unknown = ", ".join(map(repr, requests.unknown_columns))
            say(f"columns that the model does not have: {unknown}")
        endpoint = caches[0]._config.endpoint
        begun = Progress(_first_key(job, caches[0]), f"{endpoint}/{endpoint.database}")
        done, progress = _resumed(job, stream, requests, begun, say)
        rejected = Rejected(job.rejected, progress, say)
        run = _Run(job, requests, caches, rejected, tell)
        try:
            finished = run.all(done, progress, clock)
        finally:
            for cache in caches:
                cache.close()
    counts = Counter(finished.counts)
    return Report(
        model=job.model.qualified_name,
        version=job.model.version,
        store=begun.store,
        **{name: counts[name] for name in ("requests", "rejected", *_COUNTED)},
        rejected_file=str(job.rejected) if counts["rejected"] else None,
        resumed_at=progress.line,
        seconds=clock() - started,
    )


@contextmanager
def _opened(job: Job) -> Iterator[BinaryIO]:
    if job.source is None:
        yield sys.stdin.buffer
        return
    try:
        stream = job.source.open("rb")
    except OSError as error:
        raise ConfigurationError(
            "--requests", f"can't read {str(job.source)!r}: {error}"
        ) from error
    with stream:
        yield stream


def _first_key(job: Job, cache: RedisCachingDecorator) -> str:
    """Return the key of the first request that has one; "" if none of the first has."""
    if not job.can_be_resumed:
        return ""
    with _opened(job) as stream:
        requests = RequestFile(stream, job.form, job.model.input_schema)
        for line in islice(requests.lines(), _SEARCHED):
            if line.request is None:
                continue
            try:
                return cache.cache_key(requests.parse(line))
            except (ValidationError, NotCacheableError):
                continue
    return ""


def _resumed(
    job: Job,
    stream: BinaryIO,
    requests: RequestFile,
    begun: Progress,
    say: Callable[[str], None],
) -> tuple[Consumed, Progress]:
    """Return where to go on; the stream is there then."""
    kept = job.progress_file.read() if job.progress_file and not job.restart else None
    if kept is not None and kept.offset:
        changed = [name for name in ("key", "store") if getattr(kept, name) != getattr(begun, name)]
        stream.seek(0)
        done = consumed(stream, kept.offset)
        if not changed and done.digest == kept.digest:
            say(f"going on after line {kept.line:,}, where an earlier run stopped")
            return done, kept
        reasons = {"key": "the model or its options", "store": "the Redis"}
        what = " and ".join(reasons[name] for name in changed) or "the beginning of the file"
        say(f"starting over: {what} changed since the run that was interrupted")
        stream.seek(len(requests.header.raw) if requests.header else 0)
    done = Consumed()
    if requests.header is not None:
        done.add(requests.header.raw)
    return done, begun


Answers: TypeAlias = Iterator[tuple[Line, str | None]]
Map: TypeAlias = Callable[[Callable[[Line], str | None], Iterable[Line]], Answers]
"""Lines are taken as they are needed, not all at once."""


class _Run:
    """One run over what is left of the requests."""

    def __init__(
        self,
        job: Job,
        requests: RequestFile,
        caches: list[RedisCachingDecorator],
        rejected: Rejected,
        tell: Callable[[int, int], None],
    ) -> None:
        self._job = job
        self._requests = requests
        self._caches = caches
        self._rejected = rejected
        self._tell = tell

    def all(self, done: Consumed, progress: Progress, clock: Clock) -> Progress:
        """Predict what is left; whatever goes wrong, the progress up to then is kept."""
        file, saved = self._job.progress_file, clock()
        lines = self._requests.lines(progress.line)
        self._tell(progress.offset, progress.line)
        try:
            with _mapper(self._job.threads) as mapped:
                while True:
                    chunk: list[Line] = []
                    until = saved + _BETWEEN_SAVES
                    counts = self._chunk(self._taken(lines, chunk, until, clock), mapped)
                    if not chunk:
                        break
                    for line in chunk:
                        done.add(line.raw)
                    progress = advanced(progress, done, chunk[-1].number, self._rejected)
                    progress = replace(progress, counts=dict(Counter(progress.counts) + counts))
                    self._tell(progress.offset, progress.line)
                    if clock() >= until:
                        if file is not None:
                            file.write(progress)
                        saved = clock()
        except BaseException:
            if file is not None:
                file.write(progress)
            raise
        if file is not None:
            file.remove()
        return progress

    def _taken(
        self, lines: Iterator[Line], chunk: list[Line], until: float, clock: Clock
    ) -> Iterator[Line]:
        """Yield the requests of a chunk, one line at least, and note which lines it took."""
        for line in islice(lines, _CHUNK * self._job.threads):
            chunk.append(line)
            if line.request is not None or line.problem:
                yield line
            if clock() >= until:
                return

    def _chunk(self, requests: Iterable[Line], mapped: Map) -> Counter[str]:
        """Predict some lines, and return what became of them."""
        before = [cache.stats() for cache in self._caches]
        counts: Counter[str] = Counter()
        for line, problem in mapped(self._attempt, requests):
            counts["requests"] += 1
            if problem is not None:
                self._rejected.add(line.number, problem, line.text)
                counts["rejected"] += 1
        for cache, earlier in zip(self._caches, before, strict=True):
            _finish_writes(cache)
            _check(_since(cache.stats(), earlier))
        become = _since(self._caches[0].stats(), before[0])
        for name, counters in _COUNTED.items():
            counts[name] += sum(become[counter] for counter in counters)
        return counts

    def _attempt(self, line: Line) -> str | None:
        """Predict one request; return why that can't be done."""
        if line.problem is not None:
            return line.problem
        try:
            self._job.model.predict(self._requests.parse(line))
        except ValidationError as error:
            return reason(error)
        except StoreUnavailableError:
            raise
        except Exception as error:
            return f"the model raised {type(error).__name__}: {error}"
        return None


@contextmanager
def _mapper(threads: int) -> Iterator[Map]:
    """Yield what calls a function for each line: in turn, or in threads."""
    if threads == 1:
        yield lambda function, lines: ((line, function(line)) for line in lines)
        return
    pool = ThreadPoolExecutor(threads)

    def mapped(function: Callable[[Line], str | None], lines: Iterable[Line]) -> Answers:
        # Two for each thread: one that it predicts, and one to go on with.
        waiting: deque[tuple[Line, Future[str | None]]] = deque()
        for line in lines:
            waiting.append((line, pool.submit(function, line)))
            if len(waiting) == 2 * threads:
                first, problem = waiting.popleft()
                yield first, problem.result()
        for line, problem in waiting:
            yield line, problem.result()

    try:
        yield mapped
    finally:
        pool.shutdown(cancel_futures=True)


def _finish_writes(cache: RedisCachingDecorator) -> None:
    """Wait for what a cache writes in the background."""
    if cache._config.write == "foreground":
        return
    for _ in range(_MOST_CLOSES):
        cache.close()
        stats = cache.stats()
        ended = stats.stored + stats.skipped + stats.lossy + stats.too_large + stats.write_failures
        if ended >= stats.misses:
            return
    raise StoreUnavailableError("Redis is slower than the predictions come", "timeout")


def _since(stats: Stats, earlier: Stats) -> dict[str, int]:
    """Return what a decorator has counted since then."""
    names = [each.name for each in fields(Stats) if each.name != "store"]
    return {name: int(getattr(stats, name) - getattr(earlier, name)) for name in names}


def _check(counted: Mapping[str, int]) -> None:
    """Raise if the store failed: warming it is of no use then."""
    if counted["unavailable"]:
        raise StoreUnavailableError("Redis failed", "unavailable")
    if counted["write_failures"]:
        raise StoreUnavailableError("Redis takes no more entries", "write")
