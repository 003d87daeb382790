"""Whole services with real servers: those in docs/serving.md, and one that is stopped."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import redis

from tests.checkout import REPOSITORY
from tests.models import person
from tests.servers import Server, running_server
from tests.services import Service
from tests.stored import entries
from tests.web import running

PAGE = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")

SERVICE = """
import os
from fastapi import FastAPI
from model_cache import RedisCachingDecorator
from model_cache.integrations.fastapi import add_model_cache
from tests.models import Charges, FunctionModel, Person

model = RedisCachingDecorator(url=os.environ["STORE"], timeout=2.0, write="background")
model.set_model(FunctionModel())
app = FastAPI()
add_model_cache(app, model, health_path="/health/cache")

@app.post("/predict")
def predict(data: Person) -> Charges:
    return model.predict(data)
"""


def blocks(language: str, first: str = "") -> list[str]:
    """The page's blocks of a language that begin with a line."""
    return re.findall(rf"^```{language}\n({re.escape(first)}.*?)^```", PAGE, re.M | re.S)


def curl(service: Service, containing: str) -> str:
    """What the page's first curl command that contains a text prints."""
    commands = [block for block in blocks("sh", "curl ") if containing in block]
    command = (
        commands[0].replace("\\\n", " ").replace("localhost:8000", f"127.0.0.1:{service.port}")
    )
    words = shlex.split(command)
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.replace("\r\n", "\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_page_from_zero_to_a_hit(tmp_path: Path) -> None:
    (code,) = blocks("python", "# service.py")
    with running(tmp_path, code) as service:
        for shown in blocks("text"):
            answered = curl(service, "/predict").splitlines()
            for line in shown.splitlines():
                assert line in answered
        assert "cache-status: model-cache; fwd=request; stored\n" in curl(service, "no-cache")
        answer = json.loads(curl(service, "/health/cache"))
    (promised,) = map(json.loads, blocks("json"))
    assert list(answer) == list(promised)
    assert list(answer["caches"][0]) == list(promised["caches"][0])


def test_the_page_with_a_cache_of_functions(tmp_path: Path) -> None:
    (code,) = blocks("python", "# cache_service.py")
    data = json.dumps({"age": 42, "bmi": 24.0})
    with (
        running_server() as server,
        running(tmp_path, code.replace("embedded://", server.url)) as service,
    ):
        for path in ("/predict", "/async/predict"):
            answers = [service.exchange("POST", path, data) for _ in range(2)]
            assert [headers["X-Cache"] for _, headers, _ in answers] == ["MISS", "HIT"]
            assert answers[0][2] == answers[1][2]
        _, _, healthy = service.exchange("GET", "/health/cache")
        _, _, metrics = service.exchange("GET", "/metrics")
        server.kill()
        _, headers, answer = service.exchange("POST", "/predict", data)
        assert (headers["X-Cache"], answer) == ("BYPASS", answers[0][2])
        _, _, degraded = service.exchange("GET", "/health/cache")
    assert json.loads(healthy)["status"] == "ok"
    assert [each["hits"] for each in json.loads(healthy)["caches"]] == [1, 1]
    assert json.loads(degraded)["status"] == "degraded"
    assert b'predictions_total{model="service.predict_async",outcome="hit"' in metrics


def test_the_page_behind_rest_model_service(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    (code,), (configuration,) = blocks("python", "# rest_service.py"), blocks("yaml")
    for shown, here in {
        "examples.insurance_charges.model.InsuranceChargesModel": "tests.models.FunctionModel",
        "embedded://": server.url,
    }.items():
        assert shown in configuration
        configuration = configuration.replace(shown, here)
    outside = "      - class_path: tests.web.Outside\n"
    (tmp_path / "rest_config.yaml").write_text(configuration + outside)
    path, data = "/api/models/test_model/prediction", person().model_dump_json()
    with running(tmp_path, code) as service:
        answers = [service.exchange("POST", path, data) for _ in range(2)]
        assert [code for code, _, _ in answers] == [200, 200]
        assert [headers["X-Cache"] for _, headers, _ in answers] == ["MISS", "HIT"]
        _, _, answer = service.exchange("GET", "/api/health/cache")
        _, _, metrics = service.exchange("GET", "/metrics")
    (one,) = json.loads(answer)["caches"]
    assert (one["model"], one["hits"]) == ("test_model", 1)
    assert b'model_cache_predictions_total{model="test_model",outcome="hit"' in metrics
    assert len(entries(client)) == 1


def test_a_real_server_from_miss_to_hit_and_nothing_is_lost_at_sigterm(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    def predict(age: int) -> str:
        data = person(age=age).model_dump_json()
        code, headers, _ = service.exchange("POST", "/predict", data)
        assert code == 200
        word: str = headers["X-Cache"]
        return word

    with running(tmp_path, SERVICE, STORE=server.url) as service:
        assert predict(0) == "MISS"
        deadline = time.monotonic() + 30
        while predict(0) != "HIT":  # it is written in the background
            assert time.monotonic() < deadline
        _, _, answer = service.exchange("GET", "/health/cache")
        assert json.loads(answer)["caches"][0]["hits"] == 1
        client.client_pause(1000, all=False)  # of writes only: they have to wait
        assert [predict(age) for age in range(1, 20)] == ["MISS"] * 19
    assert len(entries(client)) == 20
