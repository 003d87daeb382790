"""Each framework's real server: the second request computes nothing and has the same answer."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
import redis

from tests.checkout import IMPORTS
from tests.frameworks.counted import Counted, computed
from tests.servers import Server
from tests.services import Service
from tests.stored import entries

FRAMEWORKS = ["bentoml", "kserve", "litserve", "mlflow", "ray"]
missing = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is None]
if missing:
    pytest.skip(
        f"{', '.join(missing)} not installed here; `make test-frameworks` runs these tests",
        allow_module_level=True,
    )

pytestmark = pytest.mark.timeout(300)

PEOPLE: list[dict[str, Any]] = [
    {"age": 42, "bmi": 24.5, "children": 2, "smoker": False, "region": "northwest"},
    {"age": 19, "bmi": 31, "children": 0, "smoker": True, "region": "southeast"},
]
# Nothing is sent to the frameworks' makers, nor anywhere else.
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


@pytest.fixture(scope="module")
def model() -> Any:
    from examples.frameworks.charges import train

    return train()


@pytest.fixture
def folder(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the model."""
    from examples.frameworks.charges import MODEL_FILE

    monkeypatch.chdir(tmp_path)
    joblib.dump(Counted(model), MODEL_FILE)
    return tmp_path


@pytest.fixture
def expected(model: Any) -> list[float]:
    """The model's own answers."""
    from examples.frameworks.charges import table

    answers: list[float] = model.predict(table(PEOPLE)).tolist()
    return answers


@contextlib.contextmanager
def serving(
    server: Server, folder: Path, command: list[str], ready: str, **environment: str
) -> Iterator[Service]:
    service = Service(
        command,
        {**QUIET, "PYTHONPATH": IMPORTS, "REDIS_URL": server.url, **environment},
        folder / "log",
        ready=ready,
        leads=True,  # LitServe's workers outlive a SIGTERM
    )
    try:
        service.wait_until_ready(200)  # they import much and start several processes
        yield service
    finally:
        service.stop()


def post(service: Service, path: str, body: Any) -> Any:
    status, answer = service.call("POST", path, json.dumps(body))
    assert status == 200, (answer, service.log)
    return answer


def assert_computed_once(folder: Path, client: redis.Redis, post: Callable[[], None]) -> None:
    """Assert that only the first of several requests calls the model, once for each person."""
    assert computed(folder) == 0
    post()
    assert len(entries(client)) == len(PEOPLE)
    # A first batch is compared with single predictions, so a row may be computed twice.
    first = computed(folder)
    assert first >= len(PEOPLE)
    for _ in range(5):  # to any of the workers
        post()
    assert (computed(folder), len(entries(client))) == (first, len(PEOPLE))


def test_bentoml(server: Server, client: redis.Redis, folder: Path, expected: list[float]) -> None:
    def request() -> None:
        assert post(service, "/predict", {"people": PEOPLE}) == expected

    command = ["bentoml", "serve", "examples.frameworks.bentoml_service:Charges"]
    command += ["--host", "127.0.0.1", "--port", "{port}"]
    home = {"BENTOML_HOME": str(folder / "bentoml")}
    with serving(server, folder, command, "/readyz", **home) as service:
        assert_computed_once(folder, client, request)


def test_litserve(server: Server, client: redis.Redis, folder: Path, expected: list[float]) -> None:
    def request() -> None:
        assert post(service, "/predict", {"people": PEOPLE}) == {"charges": expected}

    with serving(server, folder, ["examples.frameworks.litserve_api"], "/health") as service:
        assert_computed_once(folder, client, request)


def test_ray_serve(
    server: Server, client: redis.Redis, folder: Path, expected: list[float]
) -> None:
    def request() -> None:
        assert [post(service, "/", person) for person in PEOPLE] == expected

    with serving(server, folder, ["examples.frameworks.ray_deployment"], "/-/healthz") as service:
        assert_computed_once(folder, client, request)


def test_kserve(server: Server, client: redis.Redis, folder: Path, expected: list[float]) -> None:
    def request() -> None:
        answer = post(service, "/v1/models/charges:predict", {"instances": PEOPLE})
        assert answer == {"predictions": expected}

    command = ["examples.frameworks.kserve_model", "--http_port", "{port}"]
    command += ["--enable_grpc", "false"]
    with serving(server, folder, command, "/v2/health/ready") as service:
        assert_computed_once(folder, client, request)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what MLflow advises
def test_mlflow(server: Server, client: redis.Redis, folder: Path, expected: list[float]) -> None:
    from tests.frameworks.pyfunc import save_model

    def request(factor: float) -> None:
        data = {"dataframe_records": PEOPLE, "params": {"factor": factor}}
        answers = [factor * charges for charges in expected]
        assert post(service, "/invocations", data) == {"predictions": answers}

    save_model(folder / "model")
    command = ["uvicorn", "examples.frameworks.mlflow_server:app", "--host", "127.0.0.1"]
    with serving(server, folder, command, "/ping", MODEL_URI=str(folder / "model")) as service:
        assert_computed_once(folder, client, lambda: request(1.0))
        request(2.0)
        assert len(entries(client)) == 2 * len(PEOPLE)
