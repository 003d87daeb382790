"""compose.yaml and its configuration are valid and match the code."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import yaml

from tests.checkout import REPOSITORY
from tests.cli.command import spawn
from tests.deploy.deployment import DEPLOY, compose, read_image
from tests.servers import free_port, running_server

EXAMPLE = REPOSITORY / "examples" / "insurance_service"


def services() -> dict[str, Any]:
    return dict(compose()["services"])


def settings_file(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / path).read_text()))


def target_of(service: str, source: str) -> str:
    """Return where a service finds one of the configs."""
    (target,) = [c["target"] for c in services()[service]["configs"] if c["source"] == source]
    return str(target)


def test_it_is_valid_by_the_compose_specification() -> None:
    command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [sys.executable, *command, DEPLOY / "compose.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_all_that_services_name_is_declared_and_all_that_is_declared_is_used() -> None:
    whole = compose()
    used: dict[str, set[str]] = {"configs": set(), "secrets": set(), "networks": set()}
    volumes = set()
    for service in services().values():
        used["configs"] |= {each["source"] for each in service.get("configs", ())}
        used["secrets"] |= set(service.get("secrets", ()))
        used["networks"] |= set(service["networks"])
        volumes |= {each.partition(":")[0] for each in service.get("volumes", ())}
        assert set(service.get("depends_on", ())) <= services().keys()
    for kind, names in used.items():
        assert names == whole[kind].keys()
    assert volumes == whole["volumes"].keys()


def test_the_files_are_there_and_the_secrets_are_not() -> None:
    for config in compose()["configs"].values():
        assert (DEPLOY / config["file"]).is_file()
    readme = (DEPLOY / "README.md").read_text()
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "/deploy/secrets/" in ignored
    for secret in compose()["secrets"].values():
        assert f"deploy/{secret['file']}" in readme
        assert secret["file"].startswith("secrets/")


def test_only_this_machine_reaches_the_ports_and_redis_has_none() -> None:
    published = {name: service.get("ports", []) for name, service in services().items()}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert {name for name, ports in published.items() if ports} == {"service", "grafana"}
    assert compose()["networks"]["inside"] == {"internal": True}
    for name in ("redis", "exporter", "prometheus"):
        assert services()[name]["networks"] == ["inside"]


def test_no_container_has_more_rights_or_less_bounds_than_it_needs() -> None:
    for service in services().values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "mem_limit" in service
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"]


def test_passwords_are_files() -> None:
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert re.search(r"_FILE$", variable), name
                assert value.removeprefix("/run/secrets/") in service["secrets"]
        for word in [*service.get("command", ()), *service.get("healthcheck", {}).get("test", ())]:
            assert "secret" not in word
            assert "password" not in word


def test_the_service_starts_while_redis_is_down() -> None:
    assert services()["service"]["depends_on"]["redis"] == {
        "condition": "service_started",
        "required": False,
    }


def test_urls_lead_to_the_services_and_ports_that_are_there() -> None:
    image = read_image("Dockerfile")
    url = urlsplit(services()["service"]["environment"]["REDIS_URL"])
    assert (url.hostname, url.port) == ("redis", 6379)
    assert services()["service"]["ports"] == [f"127.0.0.1:8000:{image.last['EXPOSE']}"]
    jobs = settings_file("prometheus/prometheus.yml")["scrape_configs"]
    exporter = services()["exporter"]
    assert [job["static_configs"] for job in jobs] == [
        [{"targets": [f"service:{image.last['EXPOSE']}"]}],
        [{"targets": [f"exporter:{exporter['command'][-1]}"]}],
    ]
    assert exporter["environment"]["REDIS_URL"] == services()["service"]["environment"]["REDIS_URL"]
    (source,) = settings_file("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    networks = {name: set(service["networks"]) for name, service in services().items()}
    for one, other in (
        *(("service", "redis"), ("exporter", "redis"), ("prometheus", "service")),
        *(("prometheus", "exporter"), ("grafana", "prometheus")),
    ):
        assert networks[one] & networks[other]


def test_the_service_knows_each_variable_of_its_environment() -> None:
    code = "".join(path.read_text() for path in EXAMPLE.glob("*.py"))
    known = set(re.findall(r'environ(?:ment)?\.get\("([A-Z_]+)"', code))
    assert services()["service"]["environment"].keys() <= known


def test_the_exporter_runs_as_it_is_started(tmp_path: Path) -> None:
    service = services()["exporter"]
    password = tmp_path / "redis_password"
    password.write_text("s3cret\n")
    with running_server("--requirepass", "s3cret") as server:
        environment = service["environment"] | {
            "REDIS_URL": server.url,
            "MODEL_CACHE_PASSWORD_FILE": str(password),
        }
        program, *words, port = service["command"]
        assert (program, port) == ("model-cache", "9721")
        with spawn(*words, free_port(), "--host", "127.0.0.1", **environment) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().strip()
                with urlopen(url, timeout=30) as response:
                    assert b"model_cache_redis_memory_bytes" in response.read()
            finally:
                process.kill()


def test_it_is_given_the_time_to_finish() -> None:
    settings = runpy.run_path(str(EXAMPLE / "gunicorn.conf.py"))
    closing = 2  # seconds that close() waits for writes in the background
    grace = int(services()["service"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings["graceful_timeout"] + closing


def test_grafana_finds_what_it_is_given() -> None:
    for source, folder in (("datasource.yaml", "datasources"), ("dashboards.yaml", "dashboards")):
        target = target_of("grafana", source)
        assert target.startswith(f"/etc/grafana/provisioning/{folder}/")
    (provider,) = settings_file("grafana/provisioning/dashboards/model-cache.yaml")["providers"]
    dashboard = target_of("grafana", "model-cache.json")
    assert dashboard.startswith(f"{provider['options']['path']}/")
    environment = services()["grafana"]["environment"]
    assert environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    scrape = settings_file("prometheus/prometheus.yml")["global"]["scrape_interval"]
    (source_,) = settings_file("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source_["jsonData"]["timeInterval"] == scrape


def test_prometheus_reads_the_configuration_that_it_is_given() -> None:
    # Where its image looks by default.
    assert target_of("prometheus", "prometheus.yml") == "/etc/prometheus/prometheus.yml"
    (rules,) = settings_file("prometheus/prometheus.yml")["rule_files"]
    assert target_of("prometheus", "alerts.yaml") == f"/etc/prometheus/{rules}"
