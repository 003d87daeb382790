"""Restore global state that tests change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.serders import SERDERS


@pytest.fixture
def _registries_restored() -> Iterator[None]:
    registries: list[Any] = [SERDERS, COMPRESSORS]
    kept = [(dict(r._by_name), dict(r._by_id)) for r in registries]
    yield
    for registry, (by_name, by_id) in zip(registries, kept, strict=True):
        registry._by_name, registry._by_id = by_name, by_id
