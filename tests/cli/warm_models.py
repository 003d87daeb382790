"""Models for `model-cache warm`, controlled by the environment or with a cache already."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ml_base import MLModelDecorator

from model_cache import RedisCachingDecorator
from tests.models import FunctionModel, Person, charge


def _behave(data: Person) -> Any:
    if str(data.age) in os.environ.get("TEST_RAISE_AT", "").split(","):
        raise ValueError("unlucky")
    if str(data.age) == os.environ.get("TEST_INTERRUPT_AT"):
        raise KeyboardInterrupt
    if str(data.age) == os.environ.get("TEST_STOP_AT"):
        Path(os.environ["TEST_MARKER"]).touch()
        time.sleep(600)
    print("a model that prints")
    if calls := os.environ.get("TEST_CALLS"):
        with Path(calls).open("a") as file:
            file.write(f"{data.age} ")
    return charge(data)


class Behaving(FunctionModel):
    """Raises, is interrupted or stops at an age in the environment."""

    def __init__(self) -> None:
        super().__init__(function=_behave, qualified_name="behaving")


class Broken(FunctionModel):
    """Can't be made."""

    def __init__(self) -> None:
        raise RuntimeError("no weights")


class Outside(MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """Outside the cache: it sees each request."""

    def predict(self, data: Any) -> Any:
        return self._model.predict(data)


def never(data: Person, prediction: Any) -> bool:
    """For `cache_if`."""
    return False


def __getattr__(name: str) -> Any:
    # Made when they are asked for: where Redis is, the test says in the environment.
    if name == "ready":
        return RedisCachingDecorator(url=os.environ["TEST_URL"], write="background").set_model(
            Behaving()
        )
    raise AttributeError(name)
