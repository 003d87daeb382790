"""Requests are recorded: all of a sampled key, by every way to predict, at no risk for any."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel, SecretStr

from model_cache import (
    Cache,
    ConfigurationError,
    RedisCachingDecorator,
    bypass,
    read_only,
    refresh,
)
from tests.checkout import IMPORTS
from tests.models import Charges, FunctionModel, charge, person
from tests.prediction.recordings import lines, made, requests, total
from tests.servers import Server


def test_a_file_has_a_header_the_requests_with_their_times_and_their_count(tmp_path: Path) -> None:
    with made(tmp_path, ignored_fields=["sex"]) as model:
        for age in (1, 2, 1):
            model.predict(person(age=age))
        model.close()
        assert model.stats().recorded == 3
    header, *rows, counts = lines(tmp_path)
    assert header == {
        "model_cache_requests": 1,
        "model": "test_model",
        "version": "1.0.0",
        "share": 1.0,
        "left_out": ["sex"],
    }
    expected = {"bmi": 24.0, "children": 2, "smoker": False, "region": "northwest"}
    assert [row["request"] for row in rows] == [{"age": age, **expected} for age in (1, 2, 1)]
    assert rows[0]["key"] == rows[2]["key"] != rows[1]["key"]
    assert sorted(row["time"] for row in rows) == [row["time"] for row in rows]
    assert counts == {"requests": 3, "dropped": 0, "unrecordable": 0}


@pytest.mark.parametrize("options", [{"near_cache": 100}, {"adaptive": True}, {}])
def test_every_input_of_every_way_to_predict_is_a_request(
    server: Server, tmp_path: Path, options: dict[str, Any]
) -> None:
    with made(tmp_path, enabled=True, url=server.url, timeout=5.0, **options) as model:
        model.predict(person(age=1))
        model.predict_many([person(age=2), person(age=2)])

        async def predicted() -> None:
            await model.apredict(person(age=1))
            await model.apredict_many([person(age=3), person(age=1)])
            await model.aclose()

        asyncio.run(predicted())
        stats = model.stats()
    assert [each["age"] for each in requests(tmp_path)] == [1, 2, 2, 1, 3, 1]
    assert total(tmp_path) == stats.predictions == stats.recorded == 6


def test_lookups_and_predictions_apart_from_the_traffic_are_no_requests(tmp_path: Path) -> None:
    with made(tmp_path) as model:
        for block in (bypass, refresh, read_only):
            with block():
                model.predict(person())
        model.lookup(person())
        model.store(person(), Charges(charges=1.0))
        model.forget(person())
    assert list(tmp_path.iterdir()) == []


def test_all_requests_of_a_sampled_key_are_recorded_and_about_the_share_of_the_keys(
    tmp_path: Path,
) -> None:
    ages = [number % 500 for number in range(2_000)]
    with made(tmp_path, record_share=0.2) as model:
        for age in ages:
            model.predict(person(age=age))
    found = Counter(each["age"] for each in requests(tmp_path))
    assert set(found.values()) == {4}
    assert 70 <= len(found) <= 130
    assert total(tmp_path) == 2_000


def test_another_process_samples_the_same_keys(tmp_path: Path) -> None:
    code = """
        import sys
        from tests.prediction.recordings import made
        from tests.models import person
        with made(sys.argv[1], record_share=0.3) as model:
            for age in range(100):
                model.predict(person(age=age))
    """
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": IMPORTS, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
            env=environment,
            check=True,
            timeout=60,
        )
    assert len(list(tmp_path.iterdir())) == 2
    found = Counter(each["age"] for each in requests(tmp_path))
    assert set(found.values()) == {2}
    assert 15 <= len(found) <= 45


def test_rounded_inputs_are_sampled_by_their_key_and_recorded_as_they_came(tmp_path: Path) -> None:
    rounding = {"reduced_precision_fields": ["bmi"], "number_of_places": 0}
    with made(tmp_path, record_share=0.5, **rounding) as model:
        for tenth in range(1_000):
            model.predict(person(bmi=tenth / 10))
    found = Counter(round(each["bmi"]) for each in requests(tmp_path))
    full = Counter(round(tenth / 10) for tenth in range(1_000))
    assert all(found[bmi] == full[bmi] for bmi in found)
    assert 30 <= len(found) <= 70


class Anything(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    number: float = 0.0
    thing: Any = None


def test_what_has_no_key_or_no_json_is_predicted_and_counted(tmp_path: Path) -> None:
    model = FunctionModel(Anything, Charges, lambda data: Charges(charges=data.number))
    with made(tmp_path, model) as cached:
        cached.predict(Anything(number=1.0, thing=threading.Lock()))
        cached.predict(Anything(number=2.0, thing=b"\xff"))
        cached.predict(Anything(number=float("nan")))
        cached.close()
        assert cached.stats().unrecorded == 2
    assert [str(each["number"]) for each in requests(tmp_path)] == ["nan"]
    assert total(tmp_path) == 3
    assert total(tmp_path, "unrecordable") == 2


def test_nothing_is_recorded_of_a_changed_model_whose_fields_are_not_known_yet(
    server: Server, tmp_path: Path
) -> None:
    weights, folder, model = tmp_path / "weights", tmp_path / "requests", FunctionModel()
    weights.touch()
    options = {"revision": [weights], "ignored_fields": ["sex"], "timeout": 5.0}
    with made(folder, model, enabled=True, url=server.url, **options) as cached:
        cached.predict(person(age=1))
        weights.unlink()
        model.current_version = "2.0.0"
        for age in (2, 3):
            assert cached.predict(person(age=age)) == charge(person(age=age))
    assert [each["age"] for each in requests(folder)] == [1, 2]
    assert not any("sex" in each for each in requests(folder))
    assert total(folder, "unrecordable") == 1


def test_a_secret_can_not_be_guessed_from_a_key_that_key_secret_protects(tmp_path: Path) -> None:
    class Login(BaseModel):
        pin: SecretStr

    model = FunctionModel(Login, Charges, lambda _: Charges(charges=0.0))
    for number, secret in enumerate(("one", "one", "two", None)):
        with made(tmp_path / str(number), model, key_secret=secret) as cached:
            cached.predict(Login(pin=SecretStr("1234")))
    keys = [
        line["key"]
        for number in range(4)
        for line in lines(tmp_path / str(number))
        if "key" in line
    ]
    assert keys[0] == keys[1]  # the same in all processes
    assert len(set(keys)) == 3


def test_the_request_is_recorded_as_it_was_before_the_model_changed_it(tmp_path: Path) -> None:
    def spoil(data: Any) -> Charges:
        data.age = -1
        return Charges(charges=0.0)

    with made(tmp_path, FunctionModel(function=spoil)) as model:
        model.predict(person(age=7))
    assert [each["age"] for each in requests(tmp_path)] == [7]


def test_a_model_that_raises_raises_and_its_request_counts(tmp_path: Path) -> None:
    def fail(_: Any) -> Charges:
        raise LookupError

    with made(tmp_path, FunctionModel(function=fail)) as model, pytest.raises(LookupError):
        model.predict(person())
    assert len(requests(tmp_path)) == 1


def test_functions_are_recorded_by_parameter_and_tables_by_row(tmp_path: Path) -> None:
    cache = Cache("embedded://", enabled=False, record=tmp_path)

    @cache.memoize(version="1", name="price", ignored=["trace"])
    def price(item: str, count: int = 1, trace: str = "") -> float:
        return float(len(item) * count)

    @cache.memoize(version="1", name="aprice")
    async def aprice(item: str) -> float:
        return float(len(item))

    @cache.memoize_rows(version="1", name="lengths")
    def lengths(rows: Any) -> Any:
        return np.zeros(len(rows))

    with cache:
        price("umbrella", trace="secret")
        price("hat", count=2)
        asyncio.run(aprice("scarf"))
        for table in (
            ["a", "b"],
            np.array([[1.5, 2.0]]),
            pd.DataFrame({"x": [1], "y": ["z"]}),
            pl.DataFrame({"x": [1], "y": ["z"]}),
            pd.Series([0.5]),
        ):
            lengths(table)
    assert requests(tmp_path) == [
        {"item": "scarf"},
        *("a", "b", [1.5, 2.0], {"x": 1, "y": "z"}, {"x": 1, "y": "z"}, 0.5),
        {"item": "umbrella", "count": 1},
        {"item": "hat", "count": 2},
    ]


def test_the_rows_of_an_estimator_are_sampled_by_their_keys(tmp_path: Path) -> None:
    class Doubler:
        def predict(self, rows: Any) -> Any:
            return rows[:, 0] * 2

    with Cache("embedded://", enabled=False, record=tmp_path, record_share=0.3) as cache:
        model = cache.wrap(Doubler(), name="doubler", version="1", revision="1")
        for _ in range(2):
            model.predict(np.arange(200.0).reshape(100, 2))
    found = Counter(row[0] for row in requests(tmp_path))
    assert set(found.values()) == {2}
    assert 15 <= len(found) <= 45
    assert total(tmp_path) == 200


def test_a_model_of_a_cache_may_record_elsewhere_or_not_at_all(tmp_path: Path) -> None:
    with Cache("embedded://", enabled=False, record=tmp_path / "all") as cache:
        cache.model(FunctionModel(qualified_name="a")).predict(person())
        cache.model(FunctionModel(qualified_name="b"), record=None).predict(person())
        cache.model(FunctionModel(qualified_name="c"), record=tmp_path / "c").predict(person())
    assert [line["model"] for line in lines(tmp_path / "all") if "model" in line] == ["a"]
    assert [line["model"] for line in lines(tmp_path / "c") if "model" in line] == ["c"]


def test_copies_and_pickles_record_too_each_to_its_own_file(tmp_path: Path) -> None:
    model = made(tmp_path)
    model.predict(person(age=1))
    for again in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        again.predict(person(age=2))
        again.close()
    assert sorted(each["age"] for each in requests(tmp_path)) == [1, 2, 2, 2]
    assert len(list(tmp_path.iterdir())) == 4


def test_another_version_begins_another_file(tmp_path: Path) -> None:
    with made(tmp_path) as model:
        model.predict(person(age=1))
        model.set_model(FunctionModel(version="2.0.0"))
        model.predict(person(age=2))
    found = {
        line["version"]: path
        for path in tmp_path.iterdir()
        for line in map(json.loads, path.read_text().splitlines()[:1])
    }
    assert set(found) == {"1.0.0", "2.0.0"}
    assert len(requests(tmp_path)) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_records_its_own_requests_and_not_those_of_its_parent(
    tmp_path: Path,
) -> None:
    model = made(tmp_path)
    model.predict(person(age=1))
    child = os.fork()
    if not child:
        model.predict(person(age=2))
        model.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    model.close()
    assert sorted(each["age"] for each in requests(tmp_path)) == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2
    assert total(tmp_path) == 2


def test_requests_are_written_without_close_and_at_the_end_of_the_process(tmp_path: Path) -> None:
    code = """
        import sys
        from tests.prediction.recordings import made
        from tests.models import person
        model = made(sys.argv[1])
        model.predict(person())
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": IMPORTS},
        check=True,
        timeout=60,
    )
    assert len(requests(tmp_path)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record": ""}, "record: expected a folder"),
        ({"record": 5}, "record: expected a folder"),
        ({"record": "x", "record_share": 0}, "record_share: expected a share from 0.0001 to 1"),
        ({"record": "x", "record_share": 10}, "record_share: expected a share"),
        ({"record_share": 0.1}, "record_share: 0.1 has no effect without record"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RedisCachingDecorator(**options)
