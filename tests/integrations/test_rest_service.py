"""Behind rest_model_service: the decorator in YAML, the model over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from model_cache import RedisCachingDecorator
from tests.checkout import IMPORTS, REPOSITORY
from tests.models import FunctionModel, charge, person
from tests.servers import Server, free_port

CONFIGURATION = """
service_title: Charges
models:
  - class_path: tests.models.FunctionModel
    create_endpoint: true
    decorators:
      - class_path: model_cache.RedisCachingDecorator
        configuration:
          url: {url}
          prefix: rest
          ttl: 3600
          timeout: 2.0
          hashing_fields: [age, sex, bmi, children, smoker]
          reduced_precision_fields: [bmi]
          number_of_places: 1
          serder: MessagePack
          use_compression: true
          integrity: true
"""


@pytest.fixture
def service(server: Server, tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "rest_config.yaml"
    path.write_text(CONFIGURATION.format(url=server.url))
    with rest_service(path) as port:
        yield port


@contextlib.contextmanager
def rest_service(configuration: Path) -> Iterator[int]:
    """Run rest_model_service's own app; yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "rest_model_service.main:app"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=REPOSITORY,
        env={**os.environ, "REST_CONFIG": str(configuration), "PYTHONPATH": IMPORTS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_ready(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if get(port, "/api/health/ready") == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def post(port: int, body: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/api/models/test_model/prediction", body, headers)
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()
    return response.status, answer


def test_the_service_caches_by_its_yaml(service: int, client: redis.Redis) -> None:
    body = person(bmi=24.04).model_dump_json()
    first, second = post(service, body), post(service, person(bmi=23.96).model_dump_json())
    expected = charge(person(bmi=24.0)).charges
    assert first[0] == second[0] == 200
    assert json.loads(first[1]) == json.loads(second[1]) == {"charges": expected}
    (key,) = client.scan_iter("rest/test_model/1.0.0/*")
    decorator = RedisCachingDecorator(
        url="redis://127.0.0.1",
        prefix="rest",
        hashing_fields=["age", "sex", "bmi", "children", "smoker"],
        reduced_precision=True,
        number_of_places=1,
    ).set_model(FunctionModel())
    assert key.decode() == decorator.cache_key(person(bmi=24.0))


def test_a_bad_request_is_answered_as_without_the_cache(service: int, client: redis.Redis) -> None:
    status, answer = post(service, '{"age": "old"}')
    assert 400 <= status < 500
    assert "age" in answer
    assert client.dbsize() == 0
