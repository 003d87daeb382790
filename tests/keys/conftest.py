"""Remove canonical forms that tests have registered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model_cache.keys.canonical import INPUTS, PREDICTIONS, UNORDERED_INPUTS, _registered


@pytest.fixture
def registrations() -> Iterator[None]:
    before = dict(_registered)
    yield
    _registered.clear()
    _registered.update(before)
    for canonicalizer in (INPUTS, UNORDERED_INPUTS, PREDICTIONS):
        canonicalizer.forget()
