"""Decorators that record, and what they have recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_cache import RedisCachingDecorator
from model_cache.binding import CurrentBinding
from model_cache.observing.counters import Counters
from model_cache.options.config import Config
from model_cache.prediction.recording import Recorder
from tests.models import FunctionModel


def made(folder: Path | str, model: Any = None, **options: Any) -> RedisCachingDecorator:
    """Return a decorator without a server: what it records does not depend on one."""
    options = {"enabled": False, "record": folder, **options}
    return RedisCachingDecorator(**options).set_model(model or FunctionModel())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def requests(folder: Path) -> list[Any]:
    return [line["request"] for line in lines(folder) if "request" in line]


def total(folder: Path, name: str = "requests") -> int:
    return sum(line[name] for line in lines(folder) if name in line)


def recorder(folder: Path, counters: Counters, **options: Any) -> Recorder:
    """Return what a decorator hands its requests to."""
    config = Config.parse({**RedisCachingDecorator()._options, "enabled": False})
    current = CurrentBinding(config, lambda _: None)
    current.binding = current.bind(FunctionModel())
    return Recorder(folder, 1.0, current, counters, lambda _: None, **options)
