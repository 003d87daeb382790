"""Advice from recorded requests: what the run had, and what the whole log says."""

from __future__ import annotations

import enum
import json
import random
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, Field, SecretStr

from model_cache import Cache, ConfigurationError, RedisCachingDecorator
from model_cache.advisor import Advice, advise, log, reading
from model_cache.advisor.findings import Capacity
from model_cache.advisor.sample import coverage
from tests.advisor.logs import Score, Visit, VisitModel, visits
from tests.models import FunctionModel
from tests.servers import Server


def record(folder: Path, rows: Any, model: Any = None, **options: Any) -> None:
    model = model or VisitModel()
    with RedisCachingDecorator(enabled=False, record=folder, **options) as cached:
        cached.set_model(model)
        for row in rows:
            cached.predict(model.input_schema.model_validate(row))
        cached.close()
        assert cached.stats().unrecorded == 0


def ratio(advice: Advice, label: str = "as it is") -> Any:
    return next(each for each in advice.choices if each.label == label).hit_ratio


def test_a_recorded_run_has_the_hit_ratio_that_the_run_had(server: Server, tmp_path: Path) -> None:
    rows = list(visits(2_000, ids=True))
    options: dict[str, Any] = {"ignored_fields": ["request_id"]}
    with RedisCachingDecorator(
        url=server.url, timeout=5.0, prefix="run", record=tmp_path, **options
    ) as cached:
        cached.set_model(VisitModel())
        for row in rows[:1_000]:
            cached.predict(Visit.model_validate(row))
        cached.predict_many([Visit.model_validate(row) for row in rows[1_000:]])
        stats = cached.stats()
    advice = advise(VisitModel(), tmp_path, budget=2)
    assert advice.log.requests == advice.log.traffic == 2_000
    assert ratio(advice).value == pytest.approx((stats.hits + stats.shared) / 2_000)
    assert advice.log.fields["request_id"] == 1
    assert not any("request_id" in choice.label for choice in advice.choices)
    # What was ignored stays ignored.
    assert advice.options().get("ignored_fields", ["request_id"])[0] == "request_id"
    assert any("request_id" in note for note in advice.notes)

    # Replayed, the log has the same hits once more.
    again = [
        Visit.model_validate(json.loads(line)["request"])
        for path in sorted(tmp_path.iterdir())
        for line in path.read_text().splitlines()
        if "request" in json.loads(line)
    ]
    with RedisCachingDecorator(url=server.url, timeout=5.0, prefix="replay", **options) as replay:
        replay.set_model(VisitModel())
        for data in again:
            replay.predict(data)
        assert replay.stats().hits == stats.hits + stats.shared


def zipf(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return requests of which few are very frequent: amounts in steps of a tenth."""
    chance = np.random.default_rng(seed)
    ranks = np.minimum(chance.zipf(1.3, count), 1_000_000)
    names = chance.permutation(1_000_000)
    return [
        {"customer": "abcdefgh"[name % 8], "amount": (name // 8 % 20_000) / 10}
        for name in names[ranks - 1].tolist()
    ]


def hits_with(capacity: Capacity, entries: float) -> float:
    sizes = [float(point.entries) for point in capacity.by_entries]
    ratios = [point.hit_ratio.value for point in capacity.by_entries]
    return float(np.interp(entries, sizes, ratios))


@pytest.mark.parametrize("seed", range(3))
def test_advice_from_a_tenth_of_the_keys_agrees_with_that_from_the_whole_log(
    tmp_path: Path, seed: int
) -> None:
    rows = zipf(40_000, seed)
    record(tmp_path / "all", rows)
    record(tmp_path / "tenth", rows, record_share=0.1)
    whole, part = (
        advise(VisitModel(), tmp_path / name, budget=4, tolerance=50) for name in ("all", "tenth")
    )
    assert part.log.traffic == whole.log.requests == 40_000
    assert part.log.share == 0.1
    assert part.log.requests < 20_000
    assert whole.reuse is not None
    assert part.reuse is not None
    # As it is: the reuse of a sampled key is exact, and 1 point is what a tenth leaves open.
    assert part.reuse.hit_ratio.value == pytest.approx(whole.reuse.hit_ratio.value, abs=0.01)
    assert part.reuse.hit_ratio.low <= whole.reuse.hit_ratio.value <= part.reuse.hit_ratio.high
    distinct = whole.reuse.distinct.value
    assert part.reuse.distinct.value == pytest.approx(distinct, rel=0.06)
    assert part.log.seconds is not None
    assert part.log.per_second == pytest.approx(40_000 / part.log.seconds)
    # Rounded: many keys fall together, of which the sample has only some.
    labels = {choice.label for choice in part.choices} & {choice.label for choice in whole.choices}
    assert {"as it is", "amount to 0 places", "without customer"} <= labels
    for label in labels:
        assert ratio(part, label).value == pytest.approx(ratio(whole, label).value, abs=0.02)
    # Half of the entries hold about the same hits.
    expected, found = (hits_with(each.capacity[0], distinct / 2) for each in (whole, part))
    assert found == pytest.approx(expected, abs=0.02)
    assert any("0.1 of the inputs" in note for note in part.notes)


def test_coverage_is_the_share_of_keys_that_a_sample_of_their_units_has() -> None:
    chance = np.random.default_rng(0)
    for inside in (1, 3, 10, 100):
        keys = np.repeat(chance.integers(0, 2**64, 20_000, np.uint64), inside)
        units = chance.integers(0, 2**64, len(keys), np.uint64)
        sampled = units < np.uint64(2**64 // 10)
        found = coverage(keys[sampled], units[sampled], 0.1)
        assert found == pytest.approx(1 - 0.9**inside, abs=0.02)
    assert coverage(keys, units, 1.0) == 1.0


def test_files_of_different_shares_are_read_with_the_smallest(tmp_path: Path) -> None:
    rows = [{"customer": "a", "amount": float(number % 300)} for number in range(900)]
    record(tmp_path, rows, record_share=0.5)
    record(tmp_path, rows, record_share=0.2)
    advice = advise(VisitModel(), tmp_path, budget=1)
    assert advice.log.share == 0.2
    assert advice.log.traffic == 1_800
    assert advice.log.requests % 6 == 0
    assert 180 <= advice.log.requests <= 540


def test_the_files_of_other_models_in_a_folder_are_left_alone(tmp_path: Path) -> None:
    record(tmp_path, visits(50))
    other = FunctionModel(Score, Score, lambda data: data, qualified_name="other")
    record(tmp_path, [{"score": 1.0}], other)
    (tmp_path / "notes.jsonl").write_text("[]\n")
    assert advise(VisitModel(), tmp_path, budget=1).log.requests == 50
    stranger = FunctionModel(Score, Score, lambda data: data, qualified_name="stranger")
    with pytest.raises(ConfigurationError, match="no requests of 'stranger', only of 'other', 't"):
        advise(stranger, tmp_path)


def test_one_file_is_read_as_well(tmp_path: Path) -> None:
    record(tmp_path, visits(50))
    [path] = tmp_path.iterdir()
    advice = advise(VisitModel(), path, budget=1)
    assert advice.log.requests == 50
    assert advice.log.time_column == "time"


def test_a_folder_without_records_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"customer": "a", "amount": 1}\n')
    with pytest.raises(ConfigurationError, match="no files that the option record has written"):
        advise(VisitModel(), tmp_path)


class Channel(enum.Enum):
    web = "web"


class Origin(BaseModel):
    city: str
    zone: int


class Full(BaseModel):
    amount: float
    id: UUID
    user: str
    count: int = Field(gt=0)
    kind: Literal["a", "b"]
    channel: Channel
    origin: Origin
    tags: list[str]
    key: SecretStr
    hidden: str = Field(repr=False)


def full(number: int) -> dict[str, Any]:
    return {
        "amount": float(number % 10),
        "id": str(UUID(int=number)),
        "user": f"u{number}",
        "count": number + 1,
        "kind": "b",
        "channel": "web",
        "origin": {"city": f"c{number}", "zone": number % 2},
        "tags": [str(number)],
        "key": f"k{number}",
        "hidden": "h",
    }


def test_required_fields_that_were_not_recorded_get_stand_ins(tmp_path: Path) -> None:
    model = FunctionModel(Full, Score, lambda data: Score(score=data.amount))
    ignored = ["id", "user", "count", "kind", "channel", "tags", "origin.city", "key", "hidden"]
    record(tmp_path, map(full, range(200)), model, ignored_fields=ignored)
    advice = advise(model, tmp_path, budget=2)
    assert (advice.log.requests, advice.log.bad) == (200, 0)
    assert ratio(advice).value == pytest.approx(1 - 10 / 200)
    assert any("because secret: key, hidden" in note for note in advice.notes)
    if advice.verdict != "do not cache":
        assert set(yaml.safe_load(advice.to_yaml())["ignored_fields"]) == set(ignored)


def test_only_the_hashed_fields_are_recorded(tmp_path: Path) -> None:
    record(tmp_path, visits(100, ids=True), hashing_fields=["amount"])
    advice = advise(VisitModel(), tmp_path, budget=1)
    assert set(advice.log.left_out) == {"customer", "count", "request_id"}
    assert ratio(advice).value == pytest.approx(1 - 5 / 100)


def test_rows_of_a_table_are_read_by_the_order_of_the_fields(tmp_path: Path) -> None:
    with Cache("embedded://", enabled=False, record=tmp_path) as cache:

        @cache.memoize_rows(version="1", name="sums")
        def sums(rows: Any) -> Any:
            return rows.sum(axis=1)

        sums(np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]]))

    class Pair(BaseModel):
        first: float
        second: float

    model = FunctionModel(Pair, Score, lambda data: Score(score=data.first + data.second))
    advice = advise(model, tmp_path, budget=1)
    assert advice.log.requests == 3
    assert ratio(advice).value == pytest.approx(1 / 3)


def test_what_was_not_recorded_is_told_and_half_a_line_set_aside(tmp_path: Path) -> None:
    record(tmp_path, visits(50))
    [path] = tmp_path.iterdir()
    with path.open("a") as file:
        file.write('{"requests": 10, "dropped": 7, "unrecordable": 3}\n{"time": 17')
    advice = advise(VisitModel(), tmp_path, budget=1)
    assert advice.log.bad == 1
    assert any("7 requests were not recorded" in note for note in advice.notes)
    assert any("3 requests were not recorded" in note for note in advice.notes)


def test_files_of_several_processes_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(3):
        record(tmp_path, [{"customer": "a", "amount": chance.random()} for _ in range(20)])
    advice = advise(VisitModel(), tmp_path, budget=1)
    assert advice.log.seconds is not None
    assert 0 < advice.log.seconds < 60
    assert advice.log.requests == 60


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_of_a_long_log_a_sample_is_kept_that_agrees_with_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    rows = zipf(50_000)
    options = {} if share == 1.0 else {"record_share": share}
    record(tmp_path, rows, **options)
    whole = advise(VisitModel(), rows, budget=3)
    monkeypatch.setattr(log, "MOST_ROWS", 9_000)
    monkeypatch.setattr(reading, "_BATCH", 1_000)
    part = advise(VisitModel(), tmp_path, budget=3)
    assert part.log.requests <= 9_000
    assert part.log.traffic == 50_000
    assert part.log.share in {0.5**power for power in range(1, 6)}
    assert part.reuse is not None
    assert whole.reuse is not None
    assert part.reuse.hit_ratio.value == pytest.approx(whole.reuse.hit_ratio.value, abs=0.01)
    for label in ("amount to 0 places", "without customer"):
        assert ratio(part, label).value == pytest.approx(ratio(whole, label).value, abs=0.02)
    assert any("of the inputs" in note for note in part.notes)
