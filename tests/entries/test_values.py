"""The serder `values`: MessagePack without the names of the fields."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from pydantic import ConfigDict, create_model

from model_cache.entries.codec import Codec
from model_cache.entries.serders import VALUES
from tests.entries.round_trips import KEY, round_trip
from tests.models import Charges


def test_values_are_stored_in_the_order_of_the_names_and_without_them() -> None:
    entry = round_trip(Codec(Charges, serder=VALUES), Charges(charges=9612.64))
    assert entry == b"\x91\xcb@\xc2\xc6Q\xeb\x85\x1e\xb8"
    fields: Any = {"b": (int, 2), "a": (str, "x")}
    one = create_model("Pair", **fields)
    other = create_model("Pair", **dict(reversed(fields.items())))
    entry = Codec(one, serder=VALUES).encode(KEY, one(a="y", b=3))
    assert msgpack.unpackb(entry) == ["y", 3]
    assert Codec(other).decode(KEY, entry) == other(a="y", b=3)


@pytest.mark.parametrize("made", [{"a": "y"}, {"a": "y", "b": 3, "c": 4}, {}])
def test_values_that_are_not_those_of_the_schema_have_their_names(made: dict[str, Any]) -> None:
    schema = create_model("Pair", __config__=ConfigDict(extra="allow"), a=(str, "x"), b=(int, 2))
    entry = round_trip(Codec(schema, serder=VALUES), schema(**made))
    assert msgpack.unpackb(entry) == made


@pytest.mark.parametrize("entry", [b"\x90", b"\x92\x01\x02", b"\x91", b"\xdd\xff\xff\xff\xff"])
def test_values_of_another_number_are_a_miss(entry: bytes) -> None:
    assert Codec(Charges).decode(KEY, entry) is None
