"""The deployments' start commands and settings, run with real servers."""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry

from model_cache import RedisCachingDecorator
from tests.deploy.deployment import (
    DEPLOY,
    KUBERNETES,
    compose,
    container_of,
    environment_of,
    mounted,
    rendered,
    replaced,
    running,
    server_programs,
    succeeds,
    wait_for_success,
)
from tests.faults.load import wait_until
from tests.faults.topologies import find_nutcracker
from tests.models import FunctionModel, person
from tests.servers import Server, free_port, running_server
from tests.stored import entries

PASSWORD = "0123456789abcdef0123456789abcdef"
AWKWARD = ('say "s3cret"', "s3cret\\", "it's: #s3cret $HOME `id` & *", "s3cr\u00e9t \\x41 %s \\n")
UNITS = {"mb": 2**20, "Mi": 2**20, "m": 2**20, "Gi": 2**30, "gb": 2**30}
COUNT = 60


def size(text: str) -> int:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzGKM")
    return int(number) * UNITS[text[len(number) :]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a server's container: the programs by their names, and the password."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "bin").mkdir()
    return {
        "PATH": f"{server_programs(tmp_path / 'bin')}{os.pathsep}{os.defpath}",
        "REDIS_PASSWORD_FILE": str(tmp_path / "password"),
        "TMPDIR": str(tmp_path),
    }


@dataclass(frozen=True)
class Launched:
    """How a deployment starts a server and asks whether it is well; its memory in bytes."""

    command: list[str]
    ping: list[str]
    memory: int


def in_compose() -> Launched:
    service = compose()["services"]["redis"]
    files = {each["source"]: each["target"] for each in service["configs"]}
    places = {
        target: str(DEPLOY / compose()["configs"][source]["file"])
        for source, target in files.items()
    }
    return Launched(
        [replaced(word, places) for word in service["command"]],
        [replaced(word, places) for word in service["healthcheck"]["test"][1:]],
        size(service["mem_limit"]),
    )


def in_kubernetes(overlay: str, folder: Path) -> Launched:
    resources = rendered(overlay)
    container = container_of(resources, "redis")
    places = mounted(resources, "redis", folder / "maps")
    places |= {"/data": str(folder), "$(POD_IP)": "127.0.0.1"}
    return Launched(
        [replaced(word, places) for word in container["command"] + container["args"]],
        [replaced(word, places) for word in container["livenessProbe"]["exec"]["command"]],
        size(container["resources"]["limits"]["memory"]),
    )


@contextlib.contextmanager
def started(
    launched: Launched, folder: Path, environment: Mapping[str, str], *options: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port, log = free_port(), folder / "server.log"
    command = [*launched.command, "--port", str(port), "--bind", "127.0.0.1", *options]
    with running(command, folder, environment, log) as process:
        wait_for_success([*launched.ping, "-p", str(port)], environment, process, log)
        yield port, process


@pytest.mark.parametrize("where", ["compose", "single", "cluster", "twemproxy"])
def test_the_server_starts_with_its_limits_and_password(
    where: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    launched = in_compose() if where == "compose" else in_kubernetes(where, tmp_path)
    bus = ["--cluster-port", str(free_port())] if where == "cluster" else []
    with (
        started(launched, tmp_path, environment, *bus) as (port, process),
        redis.Redis(port=port, password=PASSWORD, decode_responses=True) as client,
    ):
        settings: dict[str, str] = {}
        for pattern in ("maxmemory*", "save", "appendonly", "cluster-*"):
            settings |= client.config_get(pattern)
        assert int(settings["maxmemory"]) == launched.memory * 3 // 4
        assert settings["maxmemory-policy"] == "allkeys-lru"
        assert settings["save"] == ""
        assert settings["appendonly"] == "no"
        assert settings["cluster-enabled"] == ("yes" if where == "cluster" else "no")
        if where == "cluster":
            assert settings["cluster-require-full-coverage"] == "no"
            assert settings["cluster-replica-validity-factor"] == "0"
            assert settings["cluster-announce-ip"] == "127.0.0.1"
        # Replicas of a cluster log in at their primaries.
        assert client.config_get("masterauth") == {"masterauth": PASSWORD}

        stranger = redis.Redis(port=port, retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        shown = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(process.pid)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "valkey-server" in shown
        assert PASSWORD not in shown
        assert PASSWORD not in (tmp_path / "server.log").read_text()


def test_any_password_of_one_line_works_and_is_not_shown(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for password in AWKWARD:
        (tmp_path / "password").write_text(f"{password}\n")
        with (
            started(in_compose(), tmp_path, environment) as (port, _),
            redis.Redis(port=port, password=password, decode_responses=True) as client,
        ):
            assert client.config_get("masterauth") == {"masterauth": password}
        assert password not in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize("start", ["redis/start.sh", "overlays/twemproxy/start.sh"])
def test_a_password_of_two_lines_or_none_is_refused_and_not_shown(
    start: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    for password, reason in (("s3cret\ns3cond", "line"), ("s3cret\ts3cond", "line"), ("", "empty")):
        (tmp_path / "password").write_text(password)
        done = subprocess.run(
            ["sh", str(KUBERNETES / start)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 1
        assert reason in done.stderr
        assert "s3c" not in done.stdout + done.stderr


def test_the_probe_fails_with_a_wrong_password_and_without_a_server(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    launched = in_compose()
    with started(launched, tmp_path, environment) as (port, _):
        ping = [*launched.ping, "-p", str(port)]
        (tmp_path / "wrong").write_text("wr0ng")
        wrong = environment | {"REDIS_PASSWORD_FILE": str(tmp_path / "wrong")}
        assert not succeeds(ping, wrong)
        assert succeeds(ping, environment)
    assert not succeeds(ping, environment)


def test_a_server_without_a_password_does_not_start(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = in_compose().command
    (tmp_path / "password").write_text("\n")
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, check=False, timeout=30
    )
    assert done.returncode != 0
    assert b"is empty" in done.stderr
    (tmp_path / "password").unlink()
    assert not succeeds(command, environment)


def cache_options(resources: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Return the cache's options in a deployment, less the places that are not here."""
    places = mounted(resources, "insurance-service", folder / "service")
    environment = environment_of(resources, "insurance-service")
    file = replaced(environment["REST_CONFIG"], places)
    (model,) = yaml.safe_load(Path(file).read_text())["models"]
    options: dict[str, Any] = model["decorators"][0]["configuration"]
    del options["revision"]  # the model's file, which is in the image
    return {**options, "url": environment["REDIS_URL"], "password": PASSWORD}


def predict_all(cache: RedisCachingDecorator) -> None:
    for age in range(COUNT):
        cache.predict(person(age=age))


def test_the_job_makes_a_cluster_that_the_service_s_url_leads_to(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    resources = rendered("cluster")
    job = container_of(resources, "create-cluster")
    places = mounted(resources, "create-cluster", tmp_path / "job")
    assert len(job["args"]) == 6
    with contextlib.ExitStack() as stack:
        ports = []
        for node in job["args"]:
            folder = tmp_path / node.partition(".")[0]
            folder.mkdir()
            launched = in_kubernetes("cluster", folder)
            bus = ("--cluster-port", str(free_port()))
            ports.append(stack.enter_context(started(launched, folder, environment, *bus))[0])
        places |= {node: f"localhost:{port}" for node, port in zip(job["args"], ports, strict=True)}
        command = [replaced(word, places) for word in job["command"] + job["args"]]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr

        options = cache_options(resources, tmp_path)
        options |= {"url": replaced(options["url"], places), "timeout": 10.0}
        cache = stack.enter_context(RedisCachingDecorator(**options).set_model(FunctionModel()))
        wait_until(lambda: all(map(is_well, ports)), "all nodes know that the cluster is whole")
        predict_all(cache)
        hits = cache.stats().hits
        predict_all(cache)
        assert cache.stats().hits == hits + COUNT
        roles = [role(port) for port in ports]
        assert sorted(roles) == ["master"] * 3 + ["slave"] * 3

        # Once more does no harm: the cluster and its entries stay.
        assert succeeds(command, environment)
        predict_all(cache)
        assert cache.stats().hits == hits + 2 * COUNT


def role(port: int) -> str:
    with redis.Redis(port=port, password=PASSWORD, decode_responses=True) as client:
        replies: Any = client.role()
        return str(replies[0])


def is_well(port: int) -> bool:
    with redis.Redis(port=port, password=PASSWORD, decode_responses=True) as client:
        state: Any = client.execute_command("CLUSTER INFO")
        return bool(state["cluster_state"] == "ok")


@contextlib.contextmanager
def behind_twemproxy(
    folder: Path, environment: Mapping[str, str], password: str = PASSWORD
) -> Iterator[tuple[RedisCachingDecorator, list[Server]]]:
    """Start the overlay's Twemproxy and three servers; yield the service's cache."""
    find_nutcracker()
    Path(environment["REDIS_PASSWORD_FILE"]).write_text(f"{password}\n")
    resources = rendered("twemproxy")
    container = container_of(resources, "twemproxy")
    places = mounted(resources, "twemproxy", folder / "proxy")
    (settings,) = places.values()
    configuration = Path(settings) / "nutcracker.yml"
    port = free_port()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running_server("--requirepass", password)) for _ in range(3)]
        here = {f"redis-{n}.redis:6379": f"127.0.0.1:{s.port}" for n, s in enumerate(servers)}
        text = configuration.read_text()
        here["0.0.0.0:22121"] = f"127.0.0.1:{port}"
        here["  timeout: 50"] = "  timeout: 5000"  # a busy machine is no dead server
        assert all(there in text for there in here)
        configuration.write_text(replaced(text, here))

        command = [replaced(word, places) for word in container["command"]]
        command += ["--stats-port", str(free_port())]
        path = f"{environment['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
        log = folder / "proxy.log"
        process = stack.enter_context(running(command, folder, {**environment, "PATH": path}, log))
        nobody = DriverInfo(name="", lib_version="")  # a proxy knows no CLIENT SETINFO
        client = redis.Redis(port=port, password=password, protocol=2, driver_info=nobody)
        stack.callback(client.close)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(redis.ConnectionError):
                return client.get("nothing") is None
            return False

        wait_until(answers, "Twemproxy answers")
        options = cache_options(resources, folder)
        assert options["proxied"] is True
        url = replaced(options["url"], {"twemproxy:22121": f"127.0.0.1:{port}"})
        options |= {"url": url, "timeout": 10.0, "password": password}
        yield (
            stack.enter_context(RedisCachingDecorator(**options).set_model(FunctionModel())),
            servers,
        )
        assert password not in log.read_text()


def test_twemproxy_takes_any_password_of_one_line(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for number, password in enumerate(AWKWARD):
        folder = tmp_path / str(number)
        folder.mkdir()
        with behind_twemproxy(folder, environment, password) as (cache, _):
            predict_all(cache)
            predict_all(cache)
            assert cache.stats().hits == COUNT


def test_twemproxy_spreads_the_entries_and_leaves_out_a_server_that_died(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with behind_twemproxy(tmp_path, environment) as (cache, servers):
        predict_all(cache)
        predict_all(cache)
        assert cache.stats().hits == cache.stats().misses == COUNT
        shares = []
        for server in servers:
            with server.client(password=PASSWORD) as client:
                shares.append(len(entries(client)))
        assert sum(shares) == COUNT
        assert all(shares)

        servers[0].kill()

        def all_hit() -> bool:
            before = cache.stats().hits
            predict_all(cache)
            return cache.stats().hits == before + COUNT

        wait_until(all_hit, "its keys go to the others")


def test_the_proxy_gives_up_before_the_cache_does() -> None:
    text = (KUBERNETES / "overlays" / "twemproxy" / "nutcracker.yml").read_text()
    milliseconds = yaml.safe_load(text)["insurance"]["timeout"]
    default = inspect.signature(RedisCachingDecorator).parameters["timeout"].default
    assert milliseconds / 1000 <= default / 2
