"""The Dockerfiles, and the service's command, run as in the container."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.checkout import REPOSITORY
from tests.deploy.deployment import (
    APP,
    DEPLOY,
    compose,
    container_of,
    environment_of,
    make_app,
    make_wheel,
    mounted,
    pods,
    read_image,
    rendered,
    replaced,
    running,
    succeeds,
    wait_for_success,
)
from tests.faults.load import wait_until
from tests.servers import Server, free_port, running_server
from tests.stored import entries
from tests.test_project import PROJECT

DOCKERFILES = sorted(path.name for path in DEPLOY.glob("*Dockerfile"))
SERVICES = [name for name in DOCKERFILES if name != "twemproxy.Dockerfile"]
PASSWORD = "0123456789abcdef0123456789abcdef"
PREDICTION = "/api/models/insurance_charges_model/prediction"
REQUEST = {
    "age": 42,
    "sex": "female",
    "bmi": 24.0,
    "children": 2,
    "smoker": False,
    "region": "northwest",
}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_dockerfile_has_no_faults_that_hadolint_knows(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, DEPLOY / name], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_image_runs_as_a_user_that_is_not_root(name: str) -> None:
    user, _, group = read_image(name).last["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_the_image_is_of_one_minor_version_of_python_and_in_two_stages(name: str) -> None:
    lines = (DEPLOY / name).read_text().splitlines()
    stages = [line.split() for line in lines if line.startswith("FROM ")]
    assert [stage[1] for stage in stages] == ["python:3.13-slim"] * 2


@pytest.mark.parametrize("name", SERVICES)
def test_all_that_is_copied_exists_and_is_let_through_by_dockerignore(name: str) -> None:
    patterns = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in patterns
    for source in read_image(name).sources:
        assert (REPOSITORY / source).exists()
        assert f"!{source.split('/')[0]}" in patterns


@pytest.mark.parametrize("name", SERVICES)
def test_the_wheel_in_the_image_carries_the_licences(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(make_wheel(read_image(name), tmp_path)) as wheel:
        licences = {
            Path(file).name: wheel.read(file).decode()
            for file in wheel.namelist()
            if ".dist-info/licenses/" in file
        }
    assert licences == {file: (REPOSITORY / file).read_text() for file in PROJECT["license-files"]}


@pytest.mark.parametrize("name", SERVICES)
def test_the_image_listens_where_it_says(name: str) -> None:
    image = read_image(name)
    assert image.environment["BIND"] == f"0.0.0.0:{image.last['EXPOSE']}"
    assert image.last["WORKDIR"] == APP
    settings = image.command[image.command.index("--config") + 1]
    assert 'os.environ.get("BIND"' in (REPOSITORY / settings).read_text()
    assert settings.rpartition("/")[0] in {words[0] for _, words in image.steps[APP]}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image has in its folder, its model trained by the Dockerfile's own command."""
    return make_app(read_image("Dockerfile"), tmp_path_factory.mktemp("app"))


def environment_in(
    container: Mapping[str, str], places: Mapping[str, str], port: int, home: Path
) -> dict[str, str]:
    """Return the environment of the process: the image's, the container's, and places here."""
    environment = {**read_image("Dockerfile").environment, **container}
    environment = {name: replaced(value, places) for name, value in environment.items()}
    return environment | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
        "HOME": str(home / "nowhere"),
        "TMPDIR": str(home),
        "BIND": f"127.0.0.1:{port}",
        "PROMETHEUS_MULTIPROC_DIR": str(home / "prometheus"),
    }


def call(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            "GET" if body is None else "POST",
            path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def scraped(port: int, path: str) -> dict[str, float]:
    """Return how many predictions the metrics tell of, by their outcomes."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
    except urllib.error.HTTPError:  # prometheus_client while a worker creates its file
        return {}
    return {
        sample.labels["outcome"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "model_cache_predictions_total" and sample.value
    }


def files_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture(scope="module")
def locked_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running_server("--requirepass", PASSWORD) as server:
        yield server


def test_the_command_of_the_image_serves_with_the_environment_of_compose(
    app: Path, locked_server: Server, tmp_path: Path
) -> None:
    image, port, log = read_image("Dockerfile"), free_port(), tmp_path / "service.log"
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    places = {
        "redis://redis:6379": f"redis://127.0.0.1:{locked_server.port}",
        "/run/secrets/redis_password": str(tmp_path / "password"),
    }
    container = compose()["services"]["service"]["environment"]
    environment = environment_in(container, places, port, tmp_path)
    healthcheck = [sys.executable if word == "python" else word for word in image.healthcheck]
    before = files_in(app)
    assert not succeeds(healthcheck, environment)
    with running(image.command, app, environment, log) as process:
        wait_for_success(healthcheck, environment, process, log)
        answers = [call(port, PREDICTION, REQUEST) for _ in range(6)]
        assert [status for status, _ in answers] == [200] * 6
        assert len({answer["charges"] for _, answer in answers}) == 1
        with locked_server.client(password=PASSWORD) as client:
            assert len(entries(client, "insurance/insurance_charges_model/*")) == 1
        # Both workers' metrics, where Prometheus is told to look.
        job, _exporters = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())[
            "scrape_configs"
        ]
        wait_until(
            lambda: scraped(port, job["metrics_path"]) == {"miss": 1.0, "hit": 5.0},
            "the metrics tell of all predictions",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not succeeds(healthcheck, environment)
    # It runs with a read-only root, and tells nobody.
    assert files_in(app) == before
    assert PASSWORD not in log.read_text()
    assert PASSWORD not in "".join(environment.values())


def test_the_probes_of_kubernetes_are_answered_while_redis_is_down(
    app: Path, tmp_path: Path
) -> None:
    resources = rendered("single")
    port, log = free_port(), tmp_path / "service.log"
    (tmp_path / "password").write_text(PASSWORD)
    places = mounted(resources, "insurance-service", tmp_path / "maps")
    places |= {
        "redis://redis:6379": f"redis://127.0.0.1:{free_port()}",
        "/run/secrets/redis/password": str(tmp_path / "password"),
    }
    container = container_of(resources, "insurance-service")
    annotations = pods(resources)["insurance-service"]["metadata"]["annotations"]
    environment = environment_in(
        environment_of(resources, "insurance-service"), places, port, tmp_path
    )
    image = read_image("Dockerfile")
    healthcheck = [sys.executable if word == "python" else word for word in image.healthcheck]
    with running(image.command, app, environment, log) as process:
        wait_for_success(healthcheck, environment, process, log)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert call(port, container[probe]["httpGet"]["path"])[0] == 200
        # So many that one of the workers has seen Redis fail often enough to say so.
        assert scraped(port, annotations["prometheus.io/path"]) == {}
        assert {call(port, PREDICTION, {**REQUEST, "age": age})[0] for age in range(20, 32)} == {
            200
        }
    assert "Redis unavailable" in log.read_text()
