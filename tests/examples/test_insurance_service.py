"""The insurance service over HTTP: under uvicorn, and under gunicorn with four forked workers."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from ml_base.ml_model import MLModel
from pydantic import BaseModel

from examples.insurance_charges import train
from examples.insurance_charges.model import InsuranceChargesModel
from examples.insurance_charges.schemas import InsuranceChargesModelInput
from examples.insurance_service.app import CONFIGURATION, read_configuration
from examples.insurance_service.prediction_id import PredictionIDDecorator
from model_cache import RedisCachingDecorator
from tests.examples.insurance_service import (
    GUNICORN,
    PREDICTION,
    READY,
    REQUEST,
    UVICORN,
    InsuranceService,
    configured,
    running,
)
from tests.models import FunctionModel, person
from tests.openapi import COERCING, check_openapi
from tests.servers import Server, free_port, running_server
from tests.services import Service
from tests.stored import entries

KEYS = "insurance/insurance_charges_model/0.1.0/*"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "insurance_charges.joblib"
    assert train.main(["--output", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def service(
    shared_server: Server, tmp_path_factory: pytest.TempPathFactory, trained: Path
) -> Iterator[InsuranceService]:
    folder = tmp_path_factory.mktemp("service")
    with running(UVICORN, folder, trained, shared_server.url) as service:
        yield service


def entries_written(client: redis.Redis) -> list[bytes]:
    """Return the keys of entries that were set, in no order, from the slow log that logs all."""
    commands = [entry["command"].split() for entry in client.slowlog_get(100_000)]
    return [
        command[1]
        for command in commands
        if command[0].upper() == b"SET"
        and command[1].count(b"/") == 3
        and not command[1].endswith(b":lease")
    ]


def test_two_equal_requests_are_one_prediction_and_two_ids(
    service: InsuranceService, client: redis.Redis, trained: Path
) -> None:
    first, second = service.predict(), service.predict()
    assert first["prediction_id"] != second["prediction_id"]
    expected = InsuranceChargesModel(trained).predict(InsuranceChargesModelInput(**REQUEST))
    assert first["charges"] == second["charges"] == expected.charges
    assert service.predict(prediction_id="mine") == {
        "charges": expected.charges,
        "prediction_id": "mine",
    }
    (key,) = entries(client, KEYS)
    assert json.loads(client.get(key) or b"") == {"charges": expected.charges}


def test_the_response_and_the_health_endpoint_report_on_the_cache(
    service: InsuranceService, client: redis.Redis
) -> None:
    # After a FLUSHALL, a process drops the first prediction that it would store.
    service.exchange("POST", PREDICTION, json.dumps({**REQUEST, "age": 64}))
    body = json.dumps(REQUEST)
    headers = [service.exchange("POST", PREDICTION, body)[1] for _ in range(2)]
    assert [one["X-Cache"] for one in headers] == ["MISS", "HIT"]
    assert headers[1]["Cache-Status"] == "model-cache; hit"
    _, health = service.call("GET", "/api/health/cache")
    assert health["status"] == "ok"
    assert [cache["model"] for cache in health["caches"]] == ["insurance_charges_model"]


def test_bad_requests_are_answered_by_400_and_the_reason(
    service: InsuranceService, client: redis.Redis
) -> None:
    bad = {
        '{"age": 42': "json_invalid",
        "[1, 2]": "body",
        "[" * 100_000: "parsing the body",
        json.dumps({**REQUEST, "age": 5}): "age",
        json.dumps({**REQUEST, "prediction_id": ""}): "prediction_id",
        json.dumps({**REQUEST, "prediction_id": 7}): "prediction_id",
    }
    for body, reason in bad.items():
        status, answer = service.call("POST", PREDICTION, body)
        assert status == 400
        assert reason in json.dumps(answer)
    assert entries(client) == []


def test_responses_are_as_the_openapi_says(service: InsuranceService, tmp_path: Path) -> None:
    # Of "/", Schemathesis would follow the redirect.
    check_openapi(service, tmp_path, COERCING, "--exclude-path=/")


def test_the_openapi_has_the_statuses_that_are_answered(service: InsuranceService) -> None:
    _, openapi = service.call("GET", "/openapi.json")
    documented = {
        path: set(operation["responses"])
        for path, operations in openapi["paths"].items()
        for operation in operations.values()
    }
    assert documented == {
        "/": {"307"},
        "/api/health": {"200", "503"},
        "/api/health/ready": {"200", "503"},
        "/api/health/startup": {"200", "503"},
        "/api/models": {"200", "500"},
        "/api/models/{model_qualified_name}/metadata": {"200", "404", "500"},
        PREDICTION: {"200", "400", "500"},
    }
    assert service.exchange("GET", "/")[0] == 307
    headers = openapi["paths"][PREDICTION]["post"]["responses"]["200"]["headers"]
    _, answered, _ = service.exchange("POST", PREDICTION, json.dumps(REQUEST))
    assert answered["X-Cache"] in headers["X-Cache"]["schema"]["enum"]
    assert set(headers) <= {name.title() for name in answered}


def test_other_errors_have_the_same_form(service: InsuranceService) -> None:
    expected = {
        ("GET", "/api/models/other_model/metadata"): (404, "There is no model 'other_model'."),
        ("GET", "/other"): (404, "Not Found"),
        ("PUT", PREDICTION): (405, "Method Not Allowed"),
    }
    for (method, path), (status, message) in expected.items():
        answered, answer = service.call(method, path)
        assert (answered, answer["messages"]) == (status, [message])
    assert service.exchange("PUT", PREDICTION)[1]["Allow"] == "POST"


def test_the_metadata_shows_the_id_in_both_schemas(service: InsuranceService) -> None:
    _, metadata = service.call("GET", "/api/models/insurance_charges_model/metadata")
    assert "prediction_id" not in metadata["input_schema"]["required"]
    assert "prediction_id" in metadata["input_schema"]["properties"]
    assert "prediction_id" in metadata["output_schema"]["required"]


def test_four_preloaded_workers_share_the_entries(tmp_path: Path, trained: Path) -> None:
    everything = ("--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000")
    with (
        running_server(*everything) as server,
        server.client() as client,
        running(GUNICORN, tmp_path, trained, server.url, WEB_CONCURRENCY="4") as service,
    ):
        charges: dict[int, float] = {}
        ages = range(18, 38)
        deadline = time.monotonic() + 60
        for age in itertools.cycle(ages):
            # One after the other: who predicts an age first computes it, all others must hit.
            answer = service.predict(age=age)["charges"]
            assert charges.setdefault(age, answer) == answer
            if age == ages[-1] and len(service.workers()) == 4:
                break
            assert time.monotonic() < deadline, service.workers()
        written = [key for key in entries_written(client) if not key.endswith(b"/generation")]
        assert len(written) == len(set(written)) == len(ages)
        assert sorted(entries(client, KEYS)) == sorted(written)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda age: service.predict(age=age), [*range(18, 58)] * 4))
        assert [answer["charges"] for answer in answers[:20]] == list(charges.values())
        assert len({answer["prediction_id"] for answer in answers}) == 160
        assert len(entries(client, KEYS)) == 40
        assert service.stop() == 0
        assert service.log.count("Application shutdown complete") == 4
        assert "Traceback" not in service.log


def test_it_starts_and_answers_while_redis_is_down(tmp_path: Path, trained: Path) -> None:
    with running(UVICORN, tmp_path, trained, f"redis://127.0.0.1:{free_port()}/0") as service:
        assert service.predict()["charges"] == service.predict()["charges"]


def test_the_password_comes_from_a_file(tmp_path: Path, trained: Path) -> None:
    secret = tmp_path / "redis_password"
    secret.write_text("s3cret/with:signs\n")
    with (
        running_server("--requirepass", "s3cret/with:signs") as server,
        running(UVICORN, tmp_path, trained, server.url, REDIS_PASSWORD_FILE=str(secret)) as service,
    ):
        service.predict()
        with server.client(password="s3cret/with:signs") as client:
            assert len(list(entries(client, KEYS))) == 1
        assert "s3cret" not in service.log


def test_it_does_not_start_with_a_bad_option(tmp_path: Path, trained: Path) -> None:
    configuration = configured(tmp_path, trained, ttl="a day")
    environment = {"REST_CONFIG": configuration}
    service = Service(UVICORN, environment, tmp_path / "service.log", READY)
    try:
        assert service.process.wait(60) != 0
    finally:
        service.stop()
    assert "ConfigurationError: ttl: expected a time in seconds" in service.log
    assert "got 'a day'" in service.log


def test_the_configuration_names_no_place_and_holds_no_secret() -> None:
    configuration = read_configuration(CONFIGURATION, {})
    (model,) = configuration.models
    assert model.decorators is not None
    cache, prediction_id = model.decorators
    assert {"url", "host", "password", "key_secret"}.isdisjoint(cache.configuration or {})
    assert prediction_id.class_path.endswith(".PredictionIDDecorator")
    assert "prediction_id" not in str(cache.configuration)


def test_the_model_sees_no_id_and_the_cache_ignores_ids(
    decorator: RedisCachingDecorator,
) -> None:
    seen: list[BaseModel] = []

    def remember(data: BaseModel) -> Any:
        seen.append(data)
        return charge_of(data)

    charge_of = FunctionModel().predict
    model = FunctionModel(function=remember)
    outside = PredictionIDDecorator().set_model(decorator.set_model(model))
    data = outside.input_schema(**person().model_dump(), prediction_id="one")
    other = data.model_copy(update={"prediction_id": "two"})
    first, second = outside.predict(data), outside.predict(other)
    assert [first.model_dump()["prediction_id"], second.model_dump()["prediction_id"]] == [
        "one",
        "two",
    ]
    assert seen == [person()]
    assert repr(outside) == "PredictionIDDecorator(RedisCachingDecorator(FunctionModel))"


def test_a_model_that_has_such_a_field_already_is_refused() -> None:
    model: MLModel = PredictionIDDecorator().set_model(FunctionModel())
    with pytest.raises(ValueError, match="prediction_id"):
        PredictionIDDecorator().set_model(model)
