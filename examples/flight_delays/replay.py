"""Replay the log through a real cache, to see whether the advice was right.

`python -m examples.flight_delays.replay --options options.yaml` takes the options that
`model-cache advise` printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import yaml
from ml_base import MLModel

from examples.flight_delays.log import LOG_FILE
from examples.flight_delays.model import Delay, DelayModel, Flight
from model_cache import RedisCachingDecorator, embedded_redis

_ROWS = 1_000


class Request(NamedTuple):
    """A request of the log."""

    time: float
    flight: Flight


@dataclass(frozen=True)
class Replayed:
    """The result of a replay.

    Attributes:
        requests: how many requests there were.
        hit_ratio: the share of them that was answered from the cache.
        answers: the answers.
    """

    requests: int
    hit_ratio: float
    answers: list[float]


def requests(path: Path = LOG_FILE, count: int | None = None) -> Iterator[Request]:
    """Yield the requests of the log, or the first `count` of them."""
    rows = (row for batch in pq.ParquetFile(path).iter_batches() for row in batch.to_pylist())
    for row in islice(rows, count):
        yield Request(row.pop("time").timestamp(), Flight.model_validate(row))


def replay(
    model: MLModel,
    log: Iterable[Request],
    options: dict[str, Any],
    *,
    speed: float | None = None,
    rows: int = _ROWS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Replayed:
    """Send the log to a cache, in its order.

    Args:
        model: the model.
        log: the requests.
        options: the cache's options, with the `url` of an empty server.
        speed: how many seconds of the log pass in a second; None for as fast as possible.
        rows: how many requests are sent at once, without a speed.
        clock: the time, in seconds.
        sleep: waits.
    """
    answers: list[float] = []
    with RedisCachingDecorator(**{"timeout": 5.0, **options}).set_model(model) as cache:
        begun, first = clock(), None
        for moment, flights in _batches(log, None if speed is not None else rows):
            first = moment if first is None else first
            if speed is not None:
                sleep(max(0.0, begun + (moment - first) / speed - clock()))
            answers += [answer.arr_delay for answer in cache.predict_many(flights)]
        stats = cache.stats()
    return Replayed(len(answers), (stats.hits + stats.shared) / max(1, len(answers)), answers)


def _batches(log: Iterable[Request], rows: int | None) -> Iterator[tuple[float, list[Flight]]]:
    """Yield the requests in batches of so many, or of those of the same time."""
    if rows is None:
        for moment, group in groupby(log, key=lambda request: request.time):
            yield moment, [request.flight for request in group]
        return
    requests = iter(log)
    while batch := list(islice(requests, rows)):
        yield batch[0].time, [request.flight for request in batch]


class Unmoved(DelayModel):
    """A model with the same schemas that answers at once: for replays that only count hits."""

    def __init__(self) -> None:
        pass

    def predict_many(self, inputs: Sequence[Flight]) -> list[Delay]:
        """Return the same answer for all."""
        return [Delay(arr_delay=0.0)] * len(inputs)


def main() -> None:
    """Replay the log, and print the hit ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--options", type=Path, help="YAML with the cache's options")
    parser.add_argument("--count", type=int, help="replay only the first requests")
    given = parser.parse_args()
    options = yaml.safe_load(given.options.read_text()) if given.options else {}
    options.pop("enabled", None)
    with embedded_redis() as url:
        found = replay(DelayModel(), requests(count=given.count), {**options, "url": url})
    print(f"{found.requests:,} requests, {found.hit_ratio:.1%} from the cache")


if __name__ == "__main__":
    main()
