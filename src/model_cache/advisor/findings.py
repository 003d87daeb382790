"""The parts of an advice: frozen results, complete enough to draw every chart from them.

Shares and ratios are from 0 to 1, times in seconds, sizes in bytes, money in the currency of
`price_per_hour`. Every estimate has an interval with 99% confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONFIDENCE = 0.99


@dataclass(frozen=True)
class Estimate:
    """A value and its interval.

    Attributes:
        value: the estimate.
        low: the lower end of the interval; equal to `value` if it was counted, not estimated.
        high: the upper end; infinite if the sample is too small to tell.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LogFacts:
    """What was read.

    Attributes:
        source: the file's name, or "requests".
        requests: how many requests were read and fit the model.
        bad: how many were skipped.
        bad_reasons: the most frequent reasons, with how often.
        failed: how many of the sampled predictions made the model raise.
        failures: the most frequent types of these exceptions.
        sampled: how many predictions the model was asked for, those of rounded requests included.
        time_column: the column with the times; None if there is none.
        first: the time of the first request, in seconds since 1970; None without times.
        seconds: how long the log lasts; None without times.
        per_second: requests per second; None without times.
        fields: the fields that keys are made of, with the number of distinct values of each.
        share: the share of the keys whose requests are in the log; 1.0 unless it was recorded with
            `record_share`.
        traffic: how many requests there were, in the log or not.
        left_out: the fields that were not recorded, since they are not part of the key.
    """

    source: str
    requests: int
    bad: int
    bad_reasons: Mapping[str, int]
    failed: int
    failures: Mapping[str, int]
    sampled: int
    time_column: str | None
    first: float | None
    seconds: float | None
    per_second: float | None
    fields: Mapping[str, int]
    share: float
    traffic: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class ReusePoint:
    """The reuse up to one point of the log.

    Attributes:
        requests: how many requests there were so far.
        seconds: seconds since the first one; None without times.
        so_far: the hit ratio so far.
        window: the hit ratio since the previous point.
    """

    requests: int
    seconds: float | None
    so_far: float
    window: float


@dataclass(frozen=True)
class Reuse:
    """The reuse that the traffic allows in a cache that never evicts.

    Attributes:
        hit_ratio: over the whole log, which begins with an empty cache.
        steady: over its last quarter.
        distinct: how many different keys there are.
        points: the reuse over time.
        reached_requests: after how many requests nine tenths of `steady` are reached; None if
            never.
        reached_seconds: after how many seconds.
    """

    hit_ratio: Estimate
    steady: Estimate
    distinct: Estimate
    points: tuple[ReusePoint, ...]
    reached_requests: int | None
    reached_seconds: float | None


@dataclass(frozen=True)
class Changes:
    """How a choice of options changes the answers, over all requests, hits or not.

    An error in place of an answer is a change, and so is an answer in place of an error. Requests
    for which the model raises in both cases are left out. Some changes can't be measured: errors,
    NaN in place of a number, lists of another length.

    Attributes:
        sampled: how many requests were compared.
        share: the share of requests with a different answer.
        mean: the mean absolute change of the answer's numbers; None if it has none. A change that
            can't be measured counts as the range of the answers.
        p99: the change that 99% of the requests stay within; infinite if it can't be measured.
        maximum: the largest change in the sample; infinite if one can't be measured.
        beyond: at most this share of all requests changes by more than `maximum`.
        flipped: the share of requests with a different label; None if there are no labels.
        errors: the share of requests with an error in place of an answer, or the reverse.
    """

    sampled: int
    share: Estimate
    mean: Estimate | None
    p99: Estimate | None
    maximum: float | None
    beyond: float
    flipped: Estimate | None
    errors: Estimate

    @property
    def cost(self) -> Estimate:
        """What choices are compared by: the mean change, or the share of flipped labels."""
        return self.mean or self.flipped or self.share


@dataclass(frozen=True)
class Choice:
    """A choice of options.

    Attributes:
        places: decimal places by field.
        ignored: the fields that are left out of the key.
        hit_ratio: the hit ratio of a cache that never evicts.
        changes: how the answers change.
        on_frontier: whether no other choice has more hits with less change.
        step: its place on the greedy path to the best hit ratio, from 1; None if not on it.
    """

    places: Mapping[str, int]
    ignored: tuple[str, ...]
    hit_ratio: Estimate
    changes: Changes
    on_frontier: bool = False
    step: int | None = None

    @property
    def label(self) -> str:
        """The choice in words."""
        parts = [
            f"{name} to {places} {'place' if places == 1 else 'places'}"
            for name, places in self.places.items()
        ]
        parts += [f"without {name}" for name in self.ignored]
        return ", ".join(parts) or "as it is"

    @property
    def phrase(self) -> str:
        """The choice in words that follow a verb: "with bmi to 0 places", "without id"."""
        return f"with {self.label}" if self.places else self.label

    @property
    def is_exact(self) -> bool:
        """Whether keys are made of the whole input."""
        return not (self.places or self.ignored)


@dataclass(frozen=True)
class CapacityPoint:
    """The hit ratio of a cache with room for so many entries, which evicts by LRU.

    Attributes:
        entries: the number of entries.
        hit_ratio: Redis' hit ratio.
        near: the hit ratio of a near cache of this size, with the default `near_ttl`; None without
            times.
        plain: the `maxmemory` that this takes with the plain layout; None if it was not measured.
        packed: the same with the packed layout.
        near_bytes: the `near_cache_bytes` that this takes.
    """

    entries: int
    hit_ratio: Estimate
    near: float | None
    plain: int | None
    packed: int | None
    near_bytes: int | None


@dataclass(frozen=True)
class TtlPoint:
    """The hit ratio with a TTL.

    Attributes:
        ttl: seconds that an entry lives.
        hit_ratio: the hit ratio of a cache that never evicts.
        entries: how many entries are alive at the end of the log.
    """

    ttl: float
    hit_ratio: Estimate
    entries: int


@dataclass(frozen=True)
class Capacity:
    """What the hit ratio of a choice takes.

    Attributes:
        choice: the choice, in words.
        sampled: how many requests the curves were computed from.
        rate: the share of keys that was sampled.
        by_entries: the curve against entries and bytes.
        by_ttl: the curve against the TTL; empty without times.
    """

    choice: str
    sampled: int
    rate: float
    by_entries: tuple[CapacityPoint, ...]
    by_ttl: tuple[TtlPoint, ...]


@dataclass(frozen=True)
class EntrySizes:
    """The memory of an entry, measured on a real server with this model's predictions.

    Attributes:
        server: what the server was.
        empty: the memory of an empty server.
        plain: bytes per plain entry.
        plain_ttl: bytes per plain entry with a TTL.
        packed: bytes per packed entry with a TTL; None if the predictions are too large to pack.
        near: bytes per entry of a near cache, as `near_cache_bytes` counts them.
        entries: how many entries were written to measure it.
    """

    server: str
    empty: int
    plain: float
    plain_ttl: float
    packed: float | None
    near: float
    entries: int


@dataclass(frozen=True)
class Costs:
    """Seconds per prediction, measured on this machine with a server beside it.

    Attributes:
        model: a prediction of the model, wall-clock time.
        model_cpu: its CPU time.
        model_batch: one row of the model's `predict_many`, wall-clock time; None without it.
        hit: a hit in Redis.
        hit_cpu: its CPU time.
        miss: what a miss costs in addition to the model.
        miss_cpu: its CPU time.
        near_hit: a hit in a near cache; None if the extra "near" is not installed.
        sampled: how many predictions were timed.
    """

    model: float
    model_cpu: float
    model_batch: float | None
    hit: float
    hit_cpu: float
    miss: float
    miss_cpu: float
    near_hit: float | None
    sampled: int


@dataclass(frozen=True)
class Savings:
    """What a hit ratio saves. Negative: what it costs.

    Attributes:
        hit_ratio: the hit ratio.
        seconds: wall-clock time saved per request.
        cpu_seconds: CPU time saved per request.
        cpu_hours: CPU hours saved per month at the log's rate; None without times.
        money: the money saved per month; None without a price.
    """

    hit_ratio: float
    seconds: float
    cpu_seconds: float
    cpu_hours: float | None
    money: float | None


@dataclass(frozen=True)
class Economics:
    """Time and money.

    Attributes:
        costs: what was measured.
        break_even: the hit ratio from which the cache saves time; None if no hit ratio does.
        requests_per_month: at the log's rate; None without times.
        price_per_hour: the price of a CPU hour; None if it was not given.
        exact: what the traffic as it is saves.
        recommended: what the recommended choice saves.
        curve: what each hit ratio from 0 to 1 saves.
    """

    costs: Costs
    break_even: float | None
    requests_per_month: float | None
    price_per_hour: float | None
    exact: Savings
    recommended: Savings
    curve: tuple[Savings, ...]
