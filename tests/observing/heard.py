"""The last outcome, and decorators to produce outcomes."""

from __future__ import annotations

from typing import Any

from model_cache import Outcome, RedisCachingDecorator, last_outcome
from tests.models import FunctionModel
from tests.servers import Server


def outcome() -> Outcome:
    found = last_outcome()
    assert found is not None
    return found


def made(
    server: Server, model: FunctionModel | None = None, **options: Any
) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(url=server.url, timeout=1.0, **options)
    return decorator.set_model(model or FunctionModel())
