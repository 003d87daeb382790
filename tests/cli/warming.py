"""Run `model-cache warm` on requests in a file, and read the results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from model_cache import RedisCachingDecorator
from tests.cli.command import Result, run
from tests.cli.warm_models import Behaving
from tests.models import person
from tests.servers import Server

MODEL = "tests.cli.warm_models:Behaving"


def write(path: Path, ages: Iterable[int]) -> None:
    path.write_text("".join(person(age=age).model_dump_json() + "\n" for age in ages))


def warm(server: Server, requests: object, *words: object, **more: Any) -> Result:
    common = ("warm", "--requests", requests, "--model", MODEL, "--json", "--url", server.url)
    return run(*common, *words, **more)


def options_file(folder: Path, **options: Any) -> Path:
    file = folder / "options.yaml"
    file.write_text(json.dumps(options))
    return file


def rejected_beside(requests: Path) -> list[dict[str, Any]]:
    return records(requests.with_name(requests.name + ".rejected.jsonl"))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_hits(server: Server, ages: Iterable[int], **options: Any) -> None:
    """The entries are those that the decorator itself would look for."""
    with RedisCachingDecorator(url=server.url, timeout=5.0, **options) as decorator:
        decorator.set_model(Behaving())
        for age in ages:
            decorator.predict(person(age=age))
        assert (decorator.stats().misses, decorator.stats().unavailable) == (0, 0)
