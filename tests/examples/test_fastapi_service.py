"""The FastAPI example, served by a real server: a miss, a hit, bad requests, and a closed cache."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.pipeline import Pipeline

from examples.frameworks.charges import MODEL_FILE, table, train
from tests.checkout import IMPORTS
from tests.openapi import COERCING, check_openapi
from tests.servers import running_server
from tests.services import Service

PEOPLE: list[dict[str, object]] = [
    {"age": 42, "bmi": 24.5, "children": 2, "smoker": False, "region": "northwest"},
    {"age": 19, "bmi": 31, "smoker": True},
]


@pytest.fixture(scope="module")
def model() -> Pipeline:
    return train()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, model: Pipeline) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    joblib.dump(model, folder / MODEL_FILE)
    with running_server() as server:
        with contextlib.chdir(folder):
            service = Service(
                ["uvicorn", "examples.frameworks.fastapi_service:app", "--host", "127.0.0.1"],
                {"PYTHONPATH": IMPORTS, "REDIS_URL": server.url},
                folder / "log",
                ready="/cache",
            )
        with service:
            yield service
    assert "Traceback" not in service.log


def hits(service: Service) -> int:
    return int(service.call("GET", "/cache")[1]["charges/1.0.0"])


def test_the_second_request_is_a_hit(service: Service, model: Pipeline) -> None:
    whole = [{"children": 0, "region": "northwest", **person} for person in PEOPLE]
    expected = model.predict(table(whole)).tolist()
    before = hits(service)
    for outcome in ("MISS", "HIT"):
        status, headers, body = service.exchange("POST", "/predict", json.dumps(PEOPLE))
        assert (status, json.loads(body)) == (200, expected), service.log
        assert headers["X-Cache"] == outcome
    assert hits(service) == before + 2


def test_what_the_model_cannot_predict_is_refused_before(service: Service) -> None:
    person = PEOPLE[0]
    for people in ([], [{**person, "region": "moon"}], [{**person, "age": 2**70}]):
        assert service.call("POST", "/predict", json.dumps(people))[0] == 422


def test_responses_are_as_the_openapi_says(service: Service, tmp_path: Path) -> None:
    check_openapi(service, tmp_path, COERCING, "--max-examples=5")
