"""The demo runs anywhere, touches only its own keys, and counts correctly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis

from benchmarks.cheap_model import CheapModel
from examples.demo.answers import AnswersDifferError, KnownModel, batch_answers, check, facts
from examples.demo.article import ArticleCache, article_key
from examples.demo.experiments import Sizes
from examples.demo.rounding import SEED, count_rounding
from examples.demo.server import demo_server
from examples.insurance_charges.generator import random_inputs
from examples.insurance_charges.model import InsuranceChargesModel
from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
)
from model_cache import RedisCachingDecorator
from tests.checkout import IMPORTS, REPOSITORY
from tests.servers import Server, free_port

PNG = b"\x89PNG\r\n\x1a\n"


def run_demo(*arguments: str, redis_url: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": IMPORTS}
    for name in ("REDIS_URL", "MODEL_CACHE_DISABLED"):
        environment.pop(name, None)
    if redis_url is not None:
        environment["REDIS_URL"] = redis_url
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", "--quick", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def person(**changes: object) -> InsuranceChargesModelInput:
    person = {
        "age": 42,
        "sex": "female",
        "bmi": 24.0,
        "children": 2,
        "smoker": False,
        "region": "northwest",
    }
    return InsuranceChargesModelInput.model_validate(person | changes)


def charges(inputs: Sequence[InsuranceChargesModelInput]) -> list[float]:
    answers = batch_answers(inputs)
    return [answers[facts(data)].charges for data in inputs]


SWAPPED = [
    (person(age=20, bmi=21.0), person(age=21, bmi=20.0)),
    (person(children=1, smoker=False), person(children=0, smoker=True)),
]


def test_demo_ends_with_no_wrong_prediction_of_ours_and_a_chart(tmp_path: Path) -> None:
    chart = tmp_path / "images" / "copy.png"
    finished = run_demo("--output", str(tmp_path / "output"), "--chart", str(chart))
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert re.search(r"model_cache +\d+ +0 of 500\b", finished.stdout)
    assert re.search(r"as it is +\d\.\d% +0\.0% +\$0 +\$0 +\$0\b", finished.stdout)
    money = r" +\$[\d,]+"
    assert re.search(
        rf"bmi to 0 places +\d\.\d% +[1-9]\d\.\d%{money}{money}{money}", finished.stdout
    )
    for name in ("JSON", "MessagePack", r"JSON \+ snappy", r"MessagePack \+ snappy"):
        assert re.search(rf"{name} .* 50 +0 *\n", finished.stdout), name
    drawn = tmp_path / "output" / "demo.png"
    assert str(drawn) in finished.stdout
    assert drawn.read_bytes().startswith(PNG)
    assert 10_000 < drawn.stat().st_size < 150_000
    assert chart.read_bytes() == drawn.read_bytes()


def test_demo_leaves_other_data_in_redis_alone(
    tmp_path: Path, server: Server, client: redis.Redis
) -> None:
    somebodys = {
        b"insurance_charges_model/0.1.0/AAAAAAAAAAAAAAAAAAAAAA": b"theirs",
        b"demo": b"theirs",
        b"demo-00000000-00/insurance_charges_model/0.1.0/1234": b"theirs",
    }
    client.mset(dict(somebodys))
    finished = run_demo("--output", str(tmp_path), redis_url=server.url)
    assert finished.returncode == 0, finished.stderr
    assert "the server at REDIS_URL" in finished.stdout
    assert {key: client.get(key) for key in client.keys()} == somebodys  # noqa: SIM118 - Redis's


def test_demo_says_that_redis_is_unavailable(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    finished = run_demo("--output", str(tmp_path), redis_url=url)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ")
    assert "Traceback" not in finished.stderr


def test_what_rounding_changes_is_counted_over_all_requests() -> None:
    count, model = 1_000, InsuranceChargesModel()
    with demo_server() as server:
        sizes = Sizes(requests=count, checks=1)
        found = count_rounding(server, model, sizes, lambda _, items: items).costs
    requests = random_inputs(count, SEED)
    own = charges(requests)
    assert (found[0].places, found[0].changed, found[0].maximum) == (None, 0.0, 0.0)
    assert [cost.places for cost in found[1:]] == [1, 0]
    for cost in found[1:]:
        rounded = [
            data.model_copy(update={"bmi": round(data.bmi, cost.places)}) for data in requests
        ]
        pairs = zip(charges(rounded), own, strict=True)
        changes = sorted(abs(now - was) for now, was in pairs)
        assert cost.changed == sum(change > 0 for change in changes) / count
        assert cost.mean == pytest.approx(sum(changes) / count)
        assert changes[count * 98 // 100] <= cost.p99 <= cost.maximum == changes[-1]
        assert cost.hit_ratio == pytest.approx(1 - len(set(map(facts, rounded))) / count)
    assert found[1].changed < found[2].changed
    assert 0.0 < found[2].hit_ratio < 0.1


@pytest.mark.parametrize(("first", "second"), SWAPPED)
def test_swapped_values_share_the_articles_key_and_not_ours(
    first: InsuranceChargesModelInput,
    second: InsuranceChargesModelInput,
    decorator: RedisCachingDecorator,
) -> None:
    decorator.set_model(CheapModel())
    assert article_key(first) == article_key(second)
    assert decorator.cache_key(first) != decorator.cache_key(second)


@pytest.mark.parametrize(("first", "second"), SWAPPED[:1])
def test_articles_cache_answers_a_swapped_input_with_the_others_prediction(
    first: InsuranceChargesModelInput, second: InsuranceChargesModelInput, server: Server
) -> None:
    class Ages(CheapModel):
        def predict(self, data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
            return InsuranceChargesModelOutput(charges=data.age)

    cache = ArticleCache(server.url, "article")
    cache.set_model(Ages())
    assert cache.predict(first) == InsuranceChargesModelOutput(charges=20)
    assert cache.predict(second) == InsuranceChargesModelOutput(charges=20)
    cache.close()


def test_articles_cache_rounds_for_the_key_and_the_model_but_not_the_callers_input(
    server: Server,
) -> None:
    cache = ArticleCache(server.url, "article", ["bmi"], 0)
    cache.set_model(CheapModel())
    data = person(bmi=24.4)
    assert cache.predict(data) == InsuranceChargesModelOutput(charges=24.0 * 42)
    assert data.bmi == 24.4
    cache.close()


def test_known_answers_are_checked_against_the_model() -> None:
    data, model = person(), CheapModel()
    right = {facts(data): model.predict(data)}
    check(right, model, [data])
    wrong = {facts(data): InsuranceChargesModelOutput(charges=1.0)}
    with pytest.raises(AnswersDifferError, match="age=42"):
        check(wrong, model, [data])


def test_known_model_calls_the_model_for_unknown_inputs() -> None:
    known = KnownModel(CheapModel(), {facts(person()): InsuranceChargesModelOutput(charges=1.0)})
    assert known.predict(person()).charges == 1.0
    assert known.predict(person(age=50)).charges == 24.0 * 50
