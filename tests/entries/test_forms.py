"""The form of an entry that works is soon tried first."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel, RootModel, create_model

from model_cache import register_serder
from model_cache.entries.codec import Codec, EntryRefusedError
from model_cache.entries.describe import describe
from model_cache.entries.envelope import MARK
from model_cache.entries.serders import JSON, MESSAGE_PACK, VALUES
from tests.entries.round_trips import KEY, Loose
from tests.models import Charges


class Counting:
    """JSON, but it counts its dumps and loses tuples."""

    name, id = "counting", 203

    def __init__(self) -> None:
        self.dumps_made = 0

    def dumps(self, prediction: BaseModel) -> bytes:
        self.dumps_made += 1
        return JSON.dumps(prediction)

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        return JSON.loads(data, schema)


@pytest.mark.usefixtures("_registries_restored")
def test_predictions_that_no_form_takes_are_soon_tried_rarely() -> None:
    counting = Counting()
    register_serder(counting)
    codec = Codec(Loose, serder=counting)
    for _ in range(500):
        with pytest.raises(EntryRefusedError, match="x: its type changes from tuple to list"):
            codec.encode(KEY, Loose(x=(1, 2), y=2.0))
    assert counting.dumps_made <= 100
    fine = Loose(x=[1, 2], y=2.0)
    for _ in range(16):
        try:
            codec.encode(KEY, fine)
            break
        except EntryRefusedError:
            continue
    dumps = counting.dumps_made
    for _ in range(20):  # one that is stored makes it normal again
        assert codec.decode(KEY, codec.encode(KEY, fine)) == fine
    assert counting.dumps_made == dumps + 20


@pytest.mark.usefixtures("_registries_restored")
def test_the_form_that_works_is_soon_tried_first_and_the_best_one_now_and_then() -> None:
    counting = Counting()
    register_serder(counting)
    codec = Codec(Charges, serder=counting)
    for _ in range(1000):
        codec.encode(KEY, Charges(charges=math.nan))
    assert counting.dumps_made <= 20
    entries = {codec.encode(KEY, Charges(charges=1))[2] for _ in range(300)}
    assert entries == {MESSAGE_PACK.id, counting.id}


class Row(RootModel[list[float]]):
    pass


class Table(RootModel[dict[str, int]]):
    pass


NUMBERS = {f"field_{number}": number for number in range(16)}
FIELDS: dict[str, Any] = dict.fromkeys(NUMBERS, (int, ...))
Wide = create_model("Wide", **FIELDS)


@pytest.mark.parametrize(
    ("prediction", "first"),
    [
        (Charges(charges=1), 0x81),
        (Wide(**NUMBERS), 0xDE),
        (Table({str(number): number for number in range(2**16)}), 0xDF),
        (Row([]), MARK),
        (Row([1.0] * 16), MARK),
    ],
    ids=["a map", "a map of 16", "a map of 65,536", "an empty list", "a list"],
)
def test_a_message_pack_map_is_an_entry_by_itself_and_a_list_needs_an_envelope(
    prediction: BaseModel, first: int
) -> None:
    codec = Codec(type(prediction), serder=MESSAGE_PACK, max_entry_bytes=2**21)
    entry = codec.encode(KEY, prediction)
    assert entry[0] == first
    assert codec.decode(KEY, entry) == prediction


@pytest.mark.parametrize(("fields", "first"), [(1, 0x91), (15, 0x9F), (16, 0xDC)])
def test_an_array_of_values_is_an_entry_by_itself(fields: int, first: int) -> None:
    names = [f"field_{number}" for number in range(fields)]
    kinds: dict[str, Any] = dict.fromkeys(names, (int, ...))
    prediction = create_model("Wide", **kinds)(**dict.fromkeys(names, 1))
    codec = Codec(type(prediction), serder=VALUES)
    entry = codec.encode(KEY, prediction)
    assert entry[0] == first
    assert codec.decode(KEY, entry) == prediction
    assert describe(KEY, entry).serder == "values"
