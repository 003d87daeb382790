"""Shared parts of the property tests: cases, randomness, keys and decorators."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import BaseModel

from model_cache import NotCacheableError, RedisCachingDecorator
from model_cache.keys.key import KeyMaker, Namespace
from tests.catalogue import CASES
from tests.models import FunctionModel

chances = st.builds(random.Random, st.integers(0, 2**32))
fewer_examples = settings(max_examples=max(20, settings().max_examples // 3))
each_case = pytest.mark.parametrize("case", CASES, ids=str)
NOWHERE = "redis://127.0.0.1:1/0"  # nothing listens there: each prediction is the model's own
KEYS = KeyMaker(Namespace(None, "catalogue", "1"))


def key(data: BaseModel) -> bytes | None:
    try:
        return KEYS.key(data)
    except NotCacheableError:
        return None


def decorated(model: FunctionModel, **options: Any) -> RedisCachingDecorator:
    decorator: RedisCachingDecorator = RedisCachingDecorator(**options).set_model(model)
    return decorator
