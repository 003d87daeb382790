"""Entries: plain if possible, else an envelope, and refused if they would change the answer."""

from __future__ import annotations

import datetime as dt
import math
import signal
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Literal

import msgpack
import pytest
from pydantic import BaseModel, Field, RootModel, computed_field, field_validator

from model_cache.entries.codec import Codec, EntryRefusedError, Refusal
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.envelope import MAX_PAYLOAD
from model_cache.entries.serders import JSON, MESSAGE_PACK, VALUES
from tests.entries.round_trips import KEY, Cat, Dog, Pets, round_trip
from tests.models import Charges, Echo
from tests.signals import SoftTimeLimitError, soft_time_limit


def test_json_is_stored_plainly() -> None:
    assert round_trip(Codec(Charges), Charges(charges=9612.64)) == b'{"charges":9612.64}'


def test_message_pack_is_stored_plainly() -> None:
    entry = round_trip(Codec(Charges, serder=MESSAGE_PACK), Charges(charges=9612.64))
    assert msgpack.unpackb(entry) == {"charges": 9612.64}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_json_would_lose_are_stored_as_a_message_pack_envelope(value: float) -> None:
    entry = round_trip(Codec(Charges), Charges(charges=value))
    assert entry[:5] == b"\xc1\x01\x02\x00\x00"


class Blob(BaseModel):
    data: bytes


def test_raw_bytes_survive_either_serder() -> None:
    for serder in (JSON, MESSAGE_PACK, VALUES):
        round_trip(Codec(Blob, serder=serder), Blob(data=bytes(range(256))))


class Numbers(BaseModel):
    number: int


def test_an_int_too_large_for_message_pack_is_stored_as_json() -> None:
    entry = round_trip(Codec(Numbers, serder=MESSAGE_PACK), Numbers(number=2**100))
    assert entry[:5] == b"\xc1\x01\x01\x00\x00"


class Numbered(RootModel[list[float]]):
    pass


def test_a_prediction_that_does_not_dump_to_an_object_is_enveloped() -> None:
    for serder in (JSON, MESSAGE_PACK, VALUES):
        assert round_trip(Codec(Numbered, serder=serder), Numbered([1.0, 2.0]))[0] == 0xC1


class Label(Enum):
    spam = "spam"
    ham = "ham"


class Detail(BaseModel):
    kind: Literal["detail"]
    when: dt.datetime
    scores: dict[Label, float]
    tags: set[str]
    pair: tuple[int, str]


class Rich(BaseModel):
    alias: int = Field(alias="AnAlias")
    detail: Detail | None = None
    optional: int = 7

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.alias * 2


RICH = Rich(
    AnAlias=1,
    detail=Detail(
        kind="detail",
        when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        scores={Label.ham: 0.25, Label.spam: 0.75},
        tags={"a", "b"},
        pair=(1, "x"),
    ),
)


@pytest.mark.parametrize("compression", [None, "snappy", "zstd", "lz4"])
@pytest.mark.parametrize("serder", [JSON, MESSAGE_PACK, VALUES])
@pytest.mark.parametrize("integrity", [False, True])
def test_ordinary_outputs_survive(serder: Any, compression: str | None, integrity: bool) -> None:
    codec = Codec(
        Rich,
        serder=serder,
        compressor=COMPRESSORS.named(compression) if compression else None,
        integrity=integrity,
    )
    again = codec.decode(KEY, codec.encode(KEY, RICH))
    assert again == RICH
    assert again is not None
    assert again.model_fields_set == {"alias", "detail"}


def test_compression_is_used_only_where_it_helps() -> None:
    for name in ("snappy", "zstd", "lz4"):
        codec = Codec(Echo, compressor=COMPRESSORS.named(name))
        assert round_trip(codec, Echo(text="x")) == b'{"text":"x"}'
        entry = round_trip(codec, Echo(text="x" * 1000))
        assert entry[3] == COMPRESSORS.named(name).id
        assert len(entry) < 100


def test_every_known_serder_and_compressor_is_read_whatever_is_configured() -> None:
    writers = [
        Codec(Echo, serder=serder, compressor=compressor, integrity=integrity)
        for serder in (JSON, MESSAGE_PACK, VALUES)
        for compressor in (None, *map(COMPRESSORS.named, ("snappy", "zstd", "lz4")))
        for integrity in (False, True)
    ]
    reader = Codec(Echo)
    for writer in writers:
        entry = writer.encode(KEY, Echo(text="ab" * 500))
        assert reader.decode(KEY, entry) == Echo(text="ab" * 500)


@pytest.mark.parametrize("serder", [JSON, MESSAGE_PACK, VALUES])
@pytest.mark.parametrize("integrity", [False, True])
def test_unset_fields_stay_unset_even_where_they_must_be_dumped(
    serder: Any, integrity: bool
) -> None:
    codec = Codec(Pets, serder=serder, integrity=integrity, compressor=COMPRESSORS.named("snappy"))
    mutated = Pets(pets=[])
    mutated.warnings.append("x")
    for prediction in (Pets(pets=[Cat(), Dog(name="x"), Dog(kind="dog", name="y")]), mutated):
        again = codec.decode(KEY, codec.encode(KEY, prediction))
        assert again == prediction
        assert again is not None
        assert again.model_fields_set == prediction.model_fields_set
        assert [pet.model_fields_set for pet in again.pets] == [
            pet.model_fields_set for pet in prediction.pets
        ]


def test_an_entry_over_the_limit_is_refused_by_its_compressed_size() -> None:
    large = Echo(text="x" * 10_000)
    with pytest.raises(EntryRefusedError) as raised:
        Codec(Echo, max_entry_bytes=1000).encode(KEY, large)
    assert raised.value.reason is Refusal.TOO_LARGE
    snappy = COMPRESSORS.named("snappy")
    round_trip(Codec(Echo, max_entry_bytes=1000, compressor=snappy), large)


@pytest.mark.parametrize("name", ["snappy", "zstd", "lz4"])
def test_decompression_is_bounded(name: str) -> None:
    compressor = COMPRESSORS.named(name)
    data = compressor.compress(b"\x00" * 100_000)
    assert compressor.decompress(data, 100_000) == b"\x00" * 100_000
    with pytest.raises(ValueError, match="100000"):
        compressor.decompress(data, 99_999)
    bomb = compressor.compress(b"\x00" * (MAX_PAYLOAD + 1))
    entry = bytes((0xC1, 1, 1, compressor.id, 0)) + bomb
    assert Codec(Charges).decode(KEY, entry) is None


class Streamed(BaseModel):
    items: Iterable[int]


def test_an_output_that_holds_an_iterator_is_not_used_up() -> None:
    prediction = Streamed(items=(number for number in range(3)))
    with pytest.raises(EntryRefusedError):
        Codec(Streamed).encode(KEY, prediction)
    assert list(prediction.items) == [0, 1, 2]


def test_an_entry_larger_than_any_that_would_be_written_is_a_miss() -> None:
    entry = Codec(Echo).encode(KEY, Echo(text="x" * 1000))
    assert Codec(Echo, max_entry_bytes=500).decode(KEY, entry) is None


class Slow(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def _interrupted(cls, value: int) -> int:
        if value < 0:
            signal.raise_signal(signal.SIGUSR1)
        return value


def test_an_interruption_gets_through() -> None:
    codec = Codec(Slow)
    calls: list[Callable[[], object]] = [
        lambda: codec.encode(KEY, Slow.model_construct(value=-1)),
        lambda: codec.decode(KEY, b'{"value":-1}'),
        lambda: codec.read(KEY, b'{"value":-1}'),
    ]
    for call in calls:
        with soft_time_limit(), pytest.raises(SoftTimeLimitError):
            call()
