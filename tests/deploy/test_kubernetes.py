"""The Kubernetes manifests are valid, and match each other and the code."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from model_cache import RedisCachingDecorator
from tests.checkout import REPOSITORY
from tests.deploy.deployment import (
    DEPLOY,
    KUBERNETES,
    OVERLAYS,
    Resource,
    container_of,
    environment_of,
    of_kind,
    pods,
    read_image,
    rendered,
)

SERVICE = "insurance-service"
EXAMPLE = REPOSITORY / "examples" / "insurance_service"
VERSIONS = ("1.30", kubernetes_validate.latest_version())
SECRET, KEY = "redis", "password"

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture
def resources(overlay: str) -> list[Resource]:
    return rendered(overlay)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_resource_is_valid_by_its_schema(resources: list[Resource], version: str) -> None:
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


def labels_of(pod: Resource) -> dict[str, str]:
    return dict(pod["metadata"]["labels"])


def is_selected(selector: dict[str, str], pod: Resource) -> bool:
    return bool(selector) and selector.items() <= labels_of(pod).items()


def test_selectors_select_the_pods_that_they_are_for(resources: list[Resource]) -> None:
    for resource in resources:
        name, spec = resource["metadata"]["name"], resource.get("spec", {})
        if resource["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            selector = spec["selector"]["matchLabels"]
        elif resource["kind"] == "Service":
            selector = spec["selector"]
        elif resource["kind"] == "NetworkPolicy":
            selector = spec["podSelector"]["matchLabels"]
        else:
            continue
        selected = [owner for owner, pod in pods(resources).items() if is_selected(selector, pod)]
        assert selected == [name]


def test_ports_are_named_as_the_containers_name_them(resources: list[Resource]) -> None:
    for owner in pods(resources):
        container = container_of(resources, owner)
        ports = {port["name"] for port in container.get("ports", ())}
        used = {
            place["port"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            for kind, place in container.get(probe, {}).items()
            if kind in ("httpGet", "tcpSocket")
        }
        if service := of_kind(resources, "Service").get(owner):
            used |= {port["targetPort"] for port in service["spec"]["ports"]}
        if policy := of_kind(resources, "NetworkPolicy").get(owner):
            used |= {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert used <= ports


def test_volumes_and_environments_come_from_what_is_there(resources: list[Resource]) -> None:
    maps = of_kind(resources, "ConfigMap")
    used: set[str] = set()
    for owner, pod in pods(resources).items():
        container = container_of(resources, owner)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        claims: dict[str, Any] = {}
        for stateful in of_kind(resources, "StatefulSet").values():
            claims |= {
                claim["metadata"]["name"]: claim
                for claim in stateful["spec"].get("volumeClaimTemplates", ())
            }
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes or mount["name"] in claims
        for volume in volumes.values():
            if "configMap" in volume:
                used.add(volume["configMap"]["name"])
            if "secret" in volume:
                assert volume["secret"]["secretName"] == SECRET
        used |= {each["configMapRef"]["name"] for each in container.get("envFrom", ())}
    assert used == set(maps)


def test_the_password_is_a_file_of_the_secret_that_the_readme_creates(
    resources: list[Resource],
) -> None:
    assert not of_kind(resources, "Secret")
    assert f"create secret generic {SECRET} --from-file={KEY}=" in readme()
    for owner, pod in pods(resources).items():
        (volume,) = [each["name"] for each in pod["spec"]["volumes"] if "secret" in each]
        (folder,) = [
            mount["mountPath"]
            for mount in container_of(resources, owner)["volumeMounts"]
            if mount["name"] == volume
        ]
        environment = environment_of(resources, owner)
        assert environment["REDIS_PASSWORD_FILE"] == f"{folder}/{KEY}"


def readme() -> str:
    return (DEPLOY / "README.md").read_text()


def test_commands_run_files_that_are_mounted(resources: list[Resource]) -> None:
    for owner, pod in pods(resources).items():
        container = container_of(resources, owner)
        words = list(container.get("command", ()))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            words += container.get(probe, {}).get("exec", {}).get("command", ())
        words += environment_of(resources, owner).get("REST_CONFIG", "").split()
        maps = {
            volume["name"]: of_kind(resources, "ConfigMap")[volume["configMap"]["name"]]["data"]
            for volume in pod["spec"]["volumes"]
            if "configMap" in volume
        }
        files = {
            f"{mount['mountPath']}/{name}"
            for mount in container["volumeMounts"]
            for name in maps.get(mount["name"], ())
        }
        assert {word for word in words if word.startswith("/etc/")} <= files


def test_no_container_has_more_rights_or_less_bounds_than_it_needs(
    resources: list[Resource],
) -> None:
    for owner, pod in pods(resources).items():
        spec, container = pod["spec"], container_of(resources, owner)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert not container["image"].endswith(":latest")
        assert ":" in container["image"]


def hosts(url: str) -> Iterator[tuple[str, int]]:
    for node in urlsplit(url).netloc.split(","):
        host, _, port = node.partition(":")
        yield host, int(port)


def names(resources: list[Resource]) -> set[tuple[str, int]]:
    """Return the hosts and ports that the cluster's name service and services know."""
    known = set()
    for name, service in of_kind(resources, "Service").items():
        for port in service["spec"]["ports"]:
            known.add((name, port["port"]))
            if stateful := of_kind(resources, "StatefulSet").get(name):
                assert stateful["spec"]["serviceName"] == name
                assert service["spec"]["clusterIP"] == "None"
                count = stateful["spec"]["replicas"]
                known |= {(f"{name}-{number}.{name}", port["port"]) for number in range(count)}
    return known


def test_the_service_s_url_leads_to_servers_that_are_there(resources: list[Resource]) -> None:
    url = environment_of(resources, SERVICE)["REDIS_URL"]
    assert set(hosts(url)) <= names(resources)
    assert labels_of(pods(resources)[SERVICE])["redis-client"] == "true"


def test_all_servers_are_in_use(resources: list[Resource], overlay: str) -> None:
    every = {host for host, _ in names(resources) if host.startswith("redis-")}
    if overlay == "cluster":
        nodes = container_of(resources, "create-cluster")["args"]
        used = {node.partition(":")[0] for node in nodes}
        assert labels_of(pods(resources)["redis"])["redis-client"] == "true"
    elif overlay == "twemproxy":
        text = (KUBERNETES / "overlays" / overlay / "nutcracker.yml").read_text()
        pool = yaml.safe_load(text)["insurance"]
        used = {server.partition(":")[0] for server in pool["servers"]}
        port = container_of(resources, "twemproxy")["ports"][0]["containerPort"]
        assert pool["listen"] == f"0.0.0.0:{port}"
        assert read_image("twemproxy.Dockerfile").last["EXPOSE"] == str(port)
    else:
        used = every
        assert len(every) == 1
    assert used == every


def test_the_cache_takes_the_options_that_it_is_given(
    resources: list[Resource], overlay: str
) -> None:
    environment = environment_of(resources, SERVICE)
    configuration = configuration_of(resources)
    options = dict(configuration["models"][0]["decorators"][0]["configuration"])
    assert bool(options.get("proxied")) == (overlay == "twemproxy")
    del options["revision"]  # the model's file, which is in the image
    RedisCachingDecorator(**options, url=environment["REDIS_URL"], password="a-password").close()


def configuration_of(resources: list[Resource]) -> dict[str, Any]:
    file = Path(environment_of(resources, SERVICE)["REST_CONFIG"]).name
    maps = of_kind(resources, "ConfigMap").values()
    (text,) = [each["data"][file] for each in maps if file in each["data"]]
    return dict(yaml.safe_load(text))


def test_the_service_s_configuration_is_the_example_s(resources: list[Resource]) -> None:
    configuration = configuration_of(resources)
    configuration["models"][0]["decorators"][0]["configuration"].pop("proxied", None)
    expected = yaml.safe_load((EXAMPLE / "rest_configuration.yaml").read_text())
    assert configuration == expected


def test_the_service_knows_each_variable_of_its_environment(resources: list[Resource]) -> None:
    code = "".join(path.read_text() for path in EXAMPLE.glob("*.py"))
    known = set(re.findall(r'environ(?:ment)?\.get\("([A-Z_]+)"', code))
    assert environment_of(resources, SERVICE).keys() <= known


def test_the_image_listens_at_the_container_s_port(resources: list[Resource]) -> None:
    (port,) = container_of(resources, SERVICE)["ports"]
    assert read_image("Dockerfile").last["EXPOSE"] == str(port["containerPort"])
    annotations = pods(resources)[SERVICE]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def test_it_is_given_the_time_to_finish(resources: list[Resource]) -> None:
    spec = pods(resources)[SERVICE]["spec"]
    sleep, seconds = container_of(resources, SERVICE)["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    settings = runpy.run_path(str(EXAMPLE / "gunicorn.conf.py"))
    closing = 2  # seconds that close() waits for writes in the background
    assert (
        spec["terminationGracePeriodSeconds"]
        > int(seconds) + settings["graceful_timeout"] + closing
    )


def test_the_readme_says_how_to_apply_it(overlay: str) -> None:
    assert f"apply -k deploy/kubernetes/overlays/{overlay}" in readme()
