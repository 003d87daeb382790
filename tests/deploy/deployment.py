"""Read deploy/, and run the commands of its containers as local processes.

No container engine is needed: a command gets the environment and the files that its container
would get, with places inside the container replaced by places of the test.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from model_cache.embedded import find_server
from tests.checkout import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("single", "cluster", "twemproxy")
APP = "/app"
"""Where the images keep what they serve."""
BUILD = "/build"
"""Where the images build the library's wheel."""

Resource = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """What a Dockerfile says of the image that it makes.

    Attributes:
        environment: of the last stage.
        sources: what is copied from the folder that the image is built in.
        steps: the words of the COPY and RUN instructions in each folder, in their order.
        last: the last stage's instructions, by name; of several, the last.
    """

    environment: dict[str, str]
    sources: list[str]
    steps: dict[str, list[tuple[str, list[str]]]]
    last: dict[str, str]

    @property
    def command(self) -> list[str]:
        return list(json.loads(self.last["CMD"]))

    @property
    def healthcheck(self) -> list[str]:
        return list(json.loads(self.last["HEALTHCHECK"].partition(" CMD ")[2]))


def read_image(name: str) -> Image:
    parser = DockerfileParser(str(DEPLOY / name))
    sources: list[str] = []
    steps: dict[str, list[tuple[str, list[str]]]] = {}
    last: dict[str, str] = {}
    folder = "/"
    for instruction in parser.structure:
        kind, value = instruction["instruction"], re.sub(r"\s+", " ", instruction["value"])
        if kind == "FROM":
            last, folder = {}, "/"
        elif kind == "WORKDIR":
            folder = value
        elif kind == "COPY" and not value.startswith("--from"):
            sources += value.split()[:-1]
        if kind in ("COPY", "RUN") and not value.startswith("--from"):
            steps.setdefault(folder, []).append((kind, shlex.split(value)))
        last[kind] = value
    return Image(dict(parser.envs), sources, steps, last)


def make_app(image: Image, folder: Path) -> Path:
    """Make what would be `APP`: copy what the Dockerfile copies there, run what it runs there."""
    for kind, words in image.steps[APP]:
        if kind == "COPY":
            _copy_all(words, folder)
        else:
            assert words[0].startswith("/opt/venv/bin/python")
            command = [sys.executable, *words[1:]]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
    return folder


def make_wheel(image: Image, folder: Path) -> Path:
    """Build the library's wheel from what the Dockerfile copies, by the Dockerfile's command."""
    for kind, words in image.steps[BUILD]:
        if kind == "COPY":
            _copy_all(words, folder)
    (run,) = (" ".join(words) for kind, words in image.steps[BUILD] if "wheel" in words)
    command = run.partition(" && ")[0].split()
    assert command[0] == "python"
    # With the build backend of the tests, so that nothing is downloaded.
    command = [sys.executable, *command[1:], "--no-build-isolation"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
    (wheel,) = (folder / "wheels").glob("*.whl")
    return wheel


def _copy_all(words: Sequence[str], folder: Path) -> None:
    *sources, target = words
    for source in sources:
        _copy(REPOSITORY / source, folder / target, into=target.endswith("/"))


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        # What .dockerignore leaves out.
        ignored = shutil.ignore_patterns("__pycache__", "*.joblib")
        shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        if into:
            target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


@functools.cache
def _rendered(overlay: str) -> str:
    command = next(
        (
            words
            for words in (["kubectl", "kustomize"], ["kustomize", "build"])
            if shutil.which(words[0])
        ),
        None,
    )
    if command is None and os.environ.get("REQUIRE_KUSTOMIZE"):
        pytest.fail("REQUIRE_KUSTOMIZE is set, and there is neither kubectl nor kustomize")
    if command is None:
        pytest.skip("there is neither kubectl nor kustomize")
    done = subprocess.run(
        [*command, str(KUBERNETES / "overlays" / overlay)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(overlay: str) -> list[Resource]:
    """Return the resources of an overlay, as kustomize makes them."""
    return list(yaml.safe_load_all(_rendered(overlay)))


def of_kind(resources: Sequence[Resource], kind: str) -> dict[str, Resource]:
    """Return the resources of a kind, by their names."""
    return {each["metadata"]["name"]: each for each in resources if each["kind"] == kind}


def pods(resources: Sequence[Resource]) -> dict[str, Resource]:
    """Return the pods' templates, by the names of what makes them."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in resources
        if each["kind"] in ("Deployment", "StatefulSet", "Job")
    }


def container_of(resources: Sequence[Resource], owner: str) -> dict[str, Any]:
    (container,) = pods(resources)[owner]["spec"]["containers"]
    return dict(container)


def environment_of(resources: Sequence[Resource], owner: str) -> dict[str, str]:
    """Return the environment variables of a pod that have a value before it runs."""
    container = container_of(resources, owner)
    environment = {
        each["name"]: each["value"] for each in container.get("env", ()) if "value" in each
    }
    for source in container.get("envFrom", ()):
        name = source["configMapRef"]["name"]
        environment |= of_kind(resources, "ConfigMap")[name]["data"]
    return environment


def mounted(resources: Sequence[Resource], owner: str, folder: Path) -> dict[str, str]:
    """Write the config maps of a pod as files; return where each mount's folder is."""
    spec = pods(resources)[owner]["spec"]
    maps = {
        volume["name"]: volume["configMap"]["name"]
        for volume in spec["volumes"]
        if "configMap" in volume
    }
    places = {}
    for mount in spec["containers"][0]["volumeMounts"]:
        if mount["name"] in maps:
            place = folder / mount["name"]
            place.mkdir(parents=True)
            for name, text in of_kind(resources, "ConfigMap")[maps[mount["name"]]]["data"].items():
                (place / name).write_text(text)
            places[mount["mountPath"]] = str(place)
    return places


def replaced(text: str, places: Mapping[str, str]) -> str:
    for inside, here in places.items():
        text = text.replace(inside, here)
    return text


def server_programs(folder: Path) -> Path:
    """Return a folder to put on PATH, with this machine's programs by the image's names.

    Without a command-line client, the test is skipped.
    """
    client = shutil.which("valkey-cli") or shutil.which("redis-cli")
    if client is None and os.environ.get("REQUIRE_REDIS_CLI"):
        pytest.fail("REQUIRE_REDIS_CLI is set, and there is neither valkey-cli nor redis-cli")
    if client is None:
        pytest.skip("there is neither valkey-cli nor redis-cli")
    (folder / "valkey-server").symlink_to(find_server())
    (folder / "valkey-cli").symlink_to(client)
    return folder


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a container's command in a folder, with no other environment than the given one."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def succeeds(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a probe's command succeeds."""
    done = subprocess.run(
        command, env=dict(environment), capture_output=True, check=False, timeout=30
    )
    return done.returncode == 0


def wait_for_success(
    command: Sequence[str],
    environment: Mapping[str, str],
    process: subprocess.Popen[bytes],
    log: Path,
) -> None:
    deadline = time.monotonic() + 60
    while not succeeds(command, environment):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
