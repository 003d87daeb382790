"""A cache filled with some predictions."""

from __future__ import annotations

from typing import Any

from model_cache import RedisCachingDecorator
from tests.models import FunctionModel, person

DIGEST = "x" * 22


def fill(
    url: str, count: int, name: str = "a_model", version: str = "1.0.0", **options: Any
) -> str:
    """Cache some predictions, and return one of the keys."""
    with RedisCachingDecorator(url=url, timeout=5.0, **options) as decorator:
        decorator.set_model(FunctionModel(qualified_name=name, version=version))
        for age in range(count):
            decorator.predict(person(age=age))
        assert decorator.stats().stored == count
        return decorator.cache_key(person(age=0))
