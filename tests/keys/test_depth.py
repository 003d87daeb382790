"""The maximum depth of a value."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from model_cache import NotCacheableError
from model_cache.keys.canonical import INPUTS, Canonicalizer, Selection, guarded
from tests.keys.forms import Anything


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def test_values_that_json_can_hold_are_not_too_deep() -> None:
    assert len({INPUTS.encode(nested(levels)) for levels in range(201)}) == 201


@pytest.mark.parametrize("fresh", [Canonicalizer, lambda: Canonicalizer(predictions=True)])
def test_a_value_nested_too_deeply_has_no_key_whatever_the_recursion_limit(fresh: Any) -> None:
    deep, told = nested(40_000), []

    def encode() -> None:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(1_000_000)
        try:
            selecting = guarded(fresh().encoders(Selection({"value": {"x": None}}, keep=True)))
            for value in (deep, {"a": (deep,)}, Anything(value=deep)):
                for encode_value in (fresh().encode, selecting):
                    with pytest.raises(NotCacheableError, match="nested more than 256") as caught:
                        encode_value(value)
                    told.append(str(caught.value))
        finally:
            sys.setrecursionlimit(before)

    thread = threading.Thread(target=encode)
    thread.start()
    thread.join()
    assert len(told) == 6
    assert all(len(message) < 300 for message in told)
    while deep:  # Python's own deallocation of it is bounded
        deep = deep[0]
