"""Advice from recorded requests: what the run had, and what the whole log says."""

from __future__ import annotations

import enum
import json
import random
from dataclasses import replace
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
from model_cache.advisor.progress import silent
from model_cache.advisor.run import Run, Study
from model_cache.advisor.sample import coverage
from model_cache.advisor.settings import Settings
from model_cache.advisor.trials import Option
from tests.advisor.logs import Score, Visit, VisitModel, visits
from tests.models import FunctionModel
from tests.servers import Server


def record(folder: Path, rows: Any, model: Any = None, **options: Any) -> None:
    model = model or VisitModel()
    with RedisCachingDecorator(enabled=False, record=folder, **options) as cached:
        cached.set_model(model)
        for number, row in enumerate(rows, 1):
            cached.predict(model.input_schema.model_validate(row))
            if number % 5000 == 0:  # on a busy machine, the thread that writes may fall behind
                cached.close()
        cached.close()
        assert cached.stats().unrecorded == 0


def ratio(advice: Advice) -> float:
    return advice.reuse.hit_ratio.value


def test_a_recorded_run_has_the_hit_ratio_that_the_run_had(server: Server, tmp_path: Path) -> None:
    rows = list(visits(2_000, ids=True))
    options: dict[str, Any] = {"ignored_fields": ["request_id"]}
    with RedisCachingDecorator(url=server.url, prefix="run", record=tmp_path, **options) as cached:
        cached.set_model(VisitModel())
        for row in rows[:1_000]:
            cached.predict(Visit.model_validate(row))
        cached.predict_many([Visit.model_validate(row) for row in rows[1_000:]])
        stats = cached.stats()
    advice = advise(VisitModel(), tmp_path, budget=2)
    assert advice.log.requests == advice.log.traffic == 2_000
    assert ratio(advice) == pytest.approx((stats.hits + stats.shared) / 2_000)
    assert advice.log.fields["request_id"] == 1
    assert not any("request_id" in choice.label for choice in advice.choices)
    # What was ignored stays ignored, if a cache pays, which depends on this machine.
    pays = replace(advice, verdict="cache")
    assert pays.options()["ignored_fields"][0] == "request_id"
    assert any("request_id" in note for note in advice.notes)

    # Replayed, the log has the same hits once more.
    again = [
        Visit.model_validate(json.loads(line)["request"])
        for path in sorted(tmp_path.iterdir())
        for line in path.read_text().splitlines()
        if "request" in json.loads(line)
    ]
    with RedisCachingDecorator(url=server.url, prefix="replay", **options) as replay:
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


def looked_at(requests: Any) -> Study:
    """Return the study of a log, before it has compared anything."""
    run = Run(VisitModel(), Settings(), silent)
    return Study(run, run.read(requests))


CHOICES = [
    *(Option().rounding("amount", places) for places in (0, -1, -2, -3)),
    Option().without("customer"),
    Option().without("customer").rounding("amount", 0),
    Option().without("amount"),
]


def assert_agree(part: Study, whole: Study) -> None:
    """As it is, a sampled key has all of its reuse. Where keys fall together, that is estimated."""
    assert part.log.sample.requests == len(whole.log)
    expected, found = whole.reuse.hit_ratio, part.reuse.hit_ratio
    assert found.value == pytest.approx(expected.value, abs=0.015)
    assert found.low <= expected.value <= found.high
    distinct = whole.reuse.distinct.value
    # Three standard errors: one is 5 % with the 400 keys of a sample.
    assert part.reuse.distinct.value == pytest.approx(distinct, rel=0.15)
    for option in CHOICES:
        ratios = [study.bench.hit_ratio(option).value for study in (part, whole)]
        assert ratios[0] == pytest.approx(ratios[1], abs=0.02), option
    capacities = [study.capacity("", Option()) for study in (part, whole)]
    for entries in (distinct / 10, distinct / 2):
        hits = [hits_with(capacity, entries) for capacity in capacities]
        assert hits[0] == pytest.approx(hits[1], abs=0.025)


@pytest.mark.parametrize("seed", range(4))
def test_advice_from_a_tenth_of_the_keys_agrees_with_that_from_the_whole_log(
    tmp_path: Path, seed: int
) -> None:
    rows = zipf(40_000, seed)
    record(tmp_path / "all", rows)
    record(tmp_path / "tenth", rows, record_share=0.1)
    whole, part = looked_at(tmp_path / "all"), looked_at(tmp_path / "tenth")
    assert len(part.log) < 20_000
    assert_agree(part, whole)


def test_advice_from_a_sample_says_so(tmp_path: Path) -> None:
    record(tmp_path, zipf(2_000), record_share=0.5)
    advice = advise(VisitModel(), tmp_path, budget=1)
    assert (advice.log.share, advice.log.traffic) == (0.5, 2_000)
    assert advice.log.seconds is not None
    assert advice.log.per_second == pytest.approx(2_000 / advice.log.seconds)
    assert any("all requests of 0.5 of the inputs" in note for note in advice.notes)
    assert f", {advice.log.requests:,} of them sampled" in str(advice)


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
    assert ratio(advice) == pytest.approx(1 - 10 / 200)
    assert any("because secret: key, hidden" in note for note in advice.notes)
    pays = replace(advice, verdict="cache")
    assert set(yaml.safe_load(pays.to_yaml())["ignored_fields"]) == set(ignored)


def test_only_the_hashed_fields_are_recorded(tmp_path: Path) -> None:
    record(tmp_path, visits(100, ids=True), hashing_fields=["amount"])
    advice = advise(VisitModel(), tmp_path, budget=1)
    assert set(advice.log.left_out) == {"customer", "count", "request_id"}
    assert ratio(advice) == pytest.approx(1 - 5 / 100)


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
    assert ratio(advice) == pytest.approx(1 / 3)


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
    whole = looked_at(rows)
    monkeypatch.setattr(log, "MOST_ROWS", 9_000)
    monkeypatch.setattr(reading, "_BATCH", 1_000)
    part = looked_at(tmp_path)
    assert len(part.log) <= 9_000
    assert part.log.sample.share in {0.5**power for power in range(1, 6)}
    assert_agree(part, whole)


def damaged(folder: Path, header: dict[str, Any], *lines: Any) -> Path:
    path = folder / "requests.jsonl"
    header = {"model_cache_requests": 1, **header}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    return path


def test_damaged_lines_of_recorded_requests_are_counted(tmp_path: Path) -> None:
    rows = [{"key": number, "request": row} for number, row in enumerate(visits(20))]
    bad = [
        *({"key": key, "request": rows[0]["request"]} for key in ("abc", None, 1.5, -1, 2**64)),
        {"requests": "many"},
        {"requests": 1, "dropped": None},
        {"requests": 1, "unrecordable": []},
    ]
    advice = advise(VisitModel(), damaged(tmp_path, {}, *rows, *bad), budget=1)
    assert advice.log.bad_reasons == {"not what the option record has written": len(bad)}


@pytest.mark.parametrize(
    "header",
    [*({"share": share} for share in ("x", None, 0, 2.0)), {"left_out": None}, {"left_out": [1]}],
)
def test_a_damaged_header_of_recorded_requests_is_named(
    tmp_path: Path, header: dict[str, Any]
) -> None:
    path = damaged(tmp_path, header, {"key": 1, "request": next(iter(visits(1)))})
    with pytest.raises(ConfigurationError, match=r"the first line of .* is damaged"):
        advise(VisitModel(), path, budget=1)
