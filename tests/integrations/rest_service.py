"""rest_model_service's own app in a separate process."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.checkout import IMPORTS, REPOSITORY
from tests.servers import free_port

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
