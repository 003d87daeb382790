"""Entries: plain if possible, else an envelope, and refused if they would change the answer."""

from __future__ import annotations

import datetime as dt
import json
import math
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgpack
import numpy
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    computed_field,
    field_validator,
    model_validator,
)

from model_cache import ConfigurationError, register_compressor, register_serder
from model_cache.entries.codec import Codec, EntryRefusedError, Refusal
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.envelope import MAX_PAYLOAD
from model_cache.entries.serders import JSON, MESSAGE_PACK, SERDERS
from tests.models import Charges, Echo

KEY = b"model/1/AAAAAAAAAAAAAAAAAAAAAA"


def round_trip(codec: Codec, prediction: BaseModel) -> bytes:
    entry = codec.encode(KEY, prediction)
    again = codec.decode(KEY, entry)
    assert repr(again) == repr(prediction)
    assert again is not prediction
    return entry


def test_json_is_stored_plainly() -> None:
    assert round_trip(Codec(Charges), Charges(charges=9612.64)) == b'{"charges":9612.64}'


def test_message_pack_is_stored_plainly() -> None:
    entry = round_trip(Codec(Charges, serder=MESSAGE_PACK), Charges(charges=9612.64))
    assert msgpack.unpackb(entry) == {"charges": 9612.64}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_would_lose_is_stored_as_a_message_pack_envelope(value: float) -> None:
    entry = round_trip(Codec(Charges), Charges(charges=value))
    assert entry[:5] == b"\xc1\x01\x02\x00\x00"


class Blob(BaseModel):
    data: bytes


def test_raw_bytes_survive_either_serder() -> None:
    for serder in (JSON, MESSAGE_PACK):
        round_trip(Codec(Blob, serder=serder), Blob(data=bytes(range(256))))


class Numbers(BaseModel):
    number: int


def test_an_int_too_large_for_message_pack_is_stored_as_json() -> None:
    entry = round_trip(Codec(Numbers, serder=MESSAGE_PACK), Numbers(number=2**100))
    assert entry[:5] == b"\xc1\x01\x01\x00\x00"


class Numbered(RootModel[list[float]]):
    pass


def test_what_dumps_to_no_object_is_enveloped() -> None:
    for serder in (JSON, MESSAGE_PACK):
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
@pytest.mark.parametrize("serder", [JSON, MESSAGE_PACK])
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
        for serder in (JSON, MESSAGE_PACK)
        for compressor in (None, *map(COMPRESSORS.named, ("snappy", "zstd", "lz4")))
        for integrity in (False, True)
    ]
    reader = Codec(Echo)
    for writer in writers:
        entry = writer.encode(KEY, Echo(text="ab" * 500))
        assert reader.decode(KEY, entry) == Echo(text="ab" * 500)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Pets(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    warnings: list[str] = []


@pytest.mark.parametrize("serder", [JSON, MESSAGE_PACK])
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


class Derived(Charges):
    more: int = 1


class Private(BaseModel):
    charges: float
    _hidden: int = PrivateAttr(default=0)


class Excluded(BaseModel):
    charges: float = Field(exclude=True)


def private(hidden: int) -> Private:
    prediction = Private(charges=1)
    prediction._hidden = hidden
    return prediction


def built(**fields: Any) -> Charges:
    """Without validation."""
    return Charges.model_construct(**fields)


@pytest.mark.parametrize(
    ("schema", "prediction"),
    [
        (Charges, Derived(charges=1)),
        (Private, private(1)),
        (Excluded, Excluded(charges=1)),
        (Charges, {"charges": 1.0}),
        (Charges, None),
        (Charges, built(charges="many")),
        (Charges, built(charges=1)),
        (Charges, built(charges=object())),
    ],
)
def test_what_would_come_back_changed_is_refused(schema: Any, prediction: Any) -> None:
    with pytest.raises(EntryRefusedError) as raised:
        Codec(schema).encode(KEY, prediction)
    assert raised.value.reason is Refusal.LOSSY


def test_a_private_attribute_with_its_default_survives() -> None:
    round_trip(Codec(Private), private(0))


def test_an_entry_over_the_limit_is_refused_by_its_compressed_size() -> None:
    large = Echo(text="x" * 10_000)
    with pytest.raises(EntryRefusedError) as raised:
        Codec(Echo, max_entry_bytes=1000).encode(KEY, large)
    assert raised.value.reason is Refusal.TOO_LARGE
    snappy = COMPRESSORS.named("snappy")
    round_trip(Codec(Echo, max_entry_bytes=1000, compressor=snappy), large)


def test_integrity_detects_any_change_and_any_move() -> None:
    codec = Codec(Charges, integrity=True)
    entry = codec.encode(KEY, Charges(charges=1))
    for place in range(len(entry) * 8):
        damaged = bytearray(entry)
        damaged[place // 8] ^= 1 << place % 8
        assert codec.decode(KEY, bytes(damaged)) is None
    assert codec.decode(KEY[:-1] + b"B", entry) is None
    assert codec.decode(KEY, b'{"charges":1.0}') is None


def test_a_keyed_tag_is_not_made_without_the_key() -> None:
    forged = Codec(Charges, integrity=True).encode(KEY, Charges(charges=1))
    other = Codec(Charges, integrity=True, tag_key=b"b").encode(KEY, Charges(charges=1))
    codec = Codec(Charges, integrity=True, tag_key=b"a")
    assert codec.decode(KEY, forged) is None
    assert codec.decode(KEY, other) is None


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


class Reversed:
    name = "reversed"
    id = 200

    def dumps(self, prediction: BaseModel) -> bytes:
        return prediction.model_dump_json().encode()[::-1]

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        return schema.model_validate_json(data[::-1])


class Nothing:
    name = "nothing"
    id = 201

    def compress(self, data: bytes) -> bytes:
        return data[1:-1]

    def decompress(self, data: bytes, max_size: int) -> bytes:
        return b"{" + data + b"}"


@pytest.fixture
def _registries_restored() -> Iterator[None]:
    registries: list[Any] = [SERDERS, COMPRESSORS]
    kept = [(dict(r._by_name), dict(r._by_id)) for r in registries]
    yield
    for registry, (by_name, by_id) in zip(registries, kept, strict=True):
        registry._by_name, registry._by_id = by_name, by_id


@pytest.mark.usefixtures("_registries_restored")
def test_a_serder_and_a_compressor_of_ones_own() -> None:
    register_serder(Reversed())
    register_compressor(Nothing())
    register_serder(Reversed())  # once more, as a reloaded module would
    codec = Codec(Echo, serder=SERDERS.named("reversed"))
    assert round_trip(codec, Echo(text="abc"))[:5] == b"\xc1\x01\xc8\x00\x00"
    assert json.loads(codec.encode(KEY, Echo(text="x"))[5:][::-1]) == {"text": "x"}
    assert Codec(Echo).decode(KEY, codec.encode(KEY, Echo(text="x"))) == Echo(text="x")


REVERSED = Reversed()


@pytest.mark.usefixtures("_registries_restored")
def test_an_import_path_leads_to_a_serder() -> None:
    assert SERDERS.named("tests.test_codec:REVERSED").name == "reversed"


@pytest.mark.usefixtures("_registries_restored")
def test_a_bad_serder_is_refused() -> None:
    class Taken(Reversed):
        name = "JSON"

    class LowId(Reversed):
        id = 2

    class Lacking:
        name = "lacking"
        id = 202

    for serder in (Taken(), LowId(), Lacking()):
        with pytest.raises(ConfigurationError, match="serder"):
            register_serder(serder)  # type: ignore[arg-type]


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


class Loose(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    x: Any = None
    y: float = 1.0


def built_loose(**fields: Any) -> Loose:
    """Without validation."""
    return Loose.model_construct(x=1, **fields)


class Stop(BaseModel):
    when: dt.datetime


class Stops(BaseModel):
    stops: list[Stop]


NOON = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)


class Clipped(BaseModel):
    value: Annotated[int, AfterValidator(lambda value: min(value, 1))]


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        (
            Loose(x=(1, 2)),
            "back: x: its type changes from tuple to list; declare the field as tuple, or",
        ),
        (
            Loose(x=[{"a": (1, 2)}]),
            r"back: x\[0\].values\(\)\[0\]: its type changes from tuple to list",
        ),
        (
            Loose(x=numpy.arange(3)),
            "back: x: a numpy.ndarray can't be dumped .*return a list",
        ),
        (
            Loose(x=[1, [numpy.arange(3)]]),
            r"back: x\[1\]\[0\]: a numpy.ndarray can't be dumped",
        ),
        (
            Loose(x=[{"a": iter([1])}]),
            r"back: x\[0\].values\(\)\[0\]: a value of type builtins.list_iterator",
        ),
        (built_loose(y=5), "back: y: its type changes from int to float"),
        (
            built_loose(y="five"),
            r"back: y: the output schema rejects it .*\(float_parsing\)",
        ),
        (
            Loose(x=Private(charges=1)),
            "back: x: its type changes from tests.test_codec.Private to",
        ),
        ({"x": 1}, "back: it is a dict, not a Loose"),
        (private(1), "back: _hidden: a private attribute is not stored; make it a field"),
        (Excluded(charges=1), "back: charges: .*exclude=True is not stored"),
        (
            Stops(stops=[Stop(when=NOON), Stop(when=NOON.astimezone(ZoneInfo("Europe/Paris")))]),
            r"back: stops\[1\].when: its time zone changes from zoneinfo.ZoneInfo Europe/Paris to",
        ),
        (Clipped.model_construct(value=2), "back: value: its value changes; does a validator"),
    ],
)
def test_a_refusal_says_why(prediction: Any, reason: str) -> None:
    schema = type(prediction) if isinstance(prediction, BaseModel) else Loose
    with pytest.raises(EntryRefusedError, match=reason) as caught:
        Codec(schema).encode(b"key", prediction)
    assert caught.value.reason is Refusal.LOSSY


def test_each_serder_says_why_if_they_differ() -> None:
    with pytest.raises(EntryRefusedError, match=r"as JSON, y: .*; as MessagePack, x: its type"):
        Codec(Loose).encode(KEY, Loose(x=(1, 2), y=math.nan))


def test_a_prediction_without_an_explanation_is_still_refused() -> None:
    nested: list[Any] = []
    for _ in range(2000):
        nested = [nested]
    with pytest.raises(EntryRefusedError, match="nested more than 256 levels deep"):
        Codec(Loose).encode(KEY, Loose.model_construct(x=nested))


COUNT = iter(range(10**9))


@dataclass
class Point:
    x: float

    @cached_property
    def double(self) -> float:
        return 2 * self.x


class Line(BaseModel):
    points: list[Point]
    name: str = "line"

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def length(self) -> float:
        return sum(point.double for point in self.points)

    @cached_property
    def ends(self) -> tuple[Point, ...]:
        return (self.points[0], self.points[-1])

    @cached_property
    def number(self) -> int:
        return next(COUNT)


class Drawing(BaseModel):
    lines: dict[str, Line]
    pets: Pets = Pets(pets=[])


def drawing() -> Drawing:
    return Drawing(lines={"a": Line(points=[Point(1.0), Point(2.0)])}, pets=Pets(pets=[Cat()]))


@pytest.mark.parametrize("serder", [JSON, MESSAGE_PACK])
@pytest.mark.parametrize(
    "use",
    [
        lambda made: made.lines["a"].length,
        lambda made: made.lines["a"].ends,
        lambda made: made.lines["a"].points[1].double,
        lambda made: made.model_dump_json(),
        repr,
    ],
    ids=["computed field", "structures", "of a dataclass", "by a dump", "by a repr"],
)
def test_a_cached_property_that_was_used_costs_no_entry(serder: Any, use: Any) -> None:
    prediction, untouched = drawing(), drawing()
    use(prediction)
    codec = Codec(Drawing, serder=serder)
    before = [dict(vars(each)) for each in (prediction, prediction.lines["a"])]
    entry = codec.encode(KEY, prediction)
    assert [vars(each) for each in (prediction, prediction.lines["a"])] == before
    assert entry == codec.encode(KEY, untouched)
    assert codec.decode(KEY, entry) == untouched


def test_a_cached_property_that_is_not_the_same_again_costs_the_entry() -> None:
    prediction = drawing()
    _ = prediction.lines["a"].number
    with pytest.raises(EntryRefusedError, match=r"lines.values\(\)\[0\].number: a cached property"):
        Codec(Drawing).encode(KEY, prediction)


def test_a_cached_property_that_is_out_of_date_costs_the_entry() -> None:
    prediction = drawing()
    assert prediction.lines["a"].length == 6
    prediction.lines["a"].points.append(Point(4.0))
    with pytest.raises(EntryRefusedError, match=r"lines.values\(\)\[0\].length: a cached property"):
        Codec(Drawing).encode(KEY, prediction)


class Checked(BaseModel):
    value: int
    scale: int = 1

    @cached_property
    def scaled(self) -> int:
        return self.value * self.scale

    @model_validator(mode="after")
    def _check(self) -> Checked:
        assert self.scaled >= 0
        return self


class Outdated(Checked):
    @model_validator(mode="after")
    def _later(self) -> Outdated:
        self.scale = 2
        return self


def test_a_cached_property_that_only_a_validator_uses_costs_no_entry() -> None:
    prediction = Checked.model_construct(value=1)
    assert "scaled" not in vars(prediction)
    restored = Codec(Checked).decode(KEY, Codec(Checked).encode(KEY, prediction))
    assert restored == prediction
    assert "scaled" not in vars(prediction)


def test_a_cached_property_that_a_hit_would_have_out_of_date_costs_the_entry() -> None:
    prediction = Outdated.model_construct({"value", "scale"}, value=1, scale=2)
    assert Outdated(value=1, scale=2).scaled == 2
    assert Outdated(value=1).scaled == 1  # out of date
    again = Outdated.model_construct({"value"}, value=1, scale=2)
    for each in (prediction, again):
        try:
            entry = Codec(Outdated).encode(KEY, each)
        except EntryRefusedError:
            continue
        restored: Any = Codec(Outdated).decode(KEY, entry)
        assert restored.scaled == each.scaled


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


class Interrupted(Exception):
    """What a signal handler raises."""


class Slow(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def _interrupted(cls, value: int) -> int:
        if value < 0:
            signal.raise_signal(signal.SIGUSR1)
        return value


def test_an_interruption_gets_through() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            Codec(Slow).encode(KEY, Slow.model_construct(value=-1))
        with pytest.raises(Interrupted):
            Codec(Slow).decode(KEY, b'{"value":-1}')
        with pytest.raises(Interrupted):
            Codec(Slow).read(KEY, b'{"value":-1}')
    finally:
        signal.signal(signal.SIGUSR1, before)


NOW, TTL = 1_700_000_000_000, 60_000


def timed(ahead: int, **options: Any) -> bytes:
    """An entry whose writer's clock is ahead of `NOW`, by milliseconds."""
    return Codec(Charges, **options).encode(KEY, Charges(charges=1), NOW + ahead + TTL)


def reader(now: float = NOW, ttl: int | None = TTL, **options: Any) -> Codec:
    return Codec(Charges, ttl=ttl, clock=lambda: now / 1000, **options)


def test_an_entry_is_fresh_until_its_time() -> None:
    entry = timed(0)
    assert reader().read(KEY, entry) == (Charges(charges=1), True)
    assert reader(NOW + TTL - 1).read(KEY, entry).fresh
    assert reader(NOW + TTL).read(KEY, entry) == (Charges(charges=1), False)


@pytest.mark.parametrize("integrity", [False, True])
def test_an_entry_is_not_fresh_for_longer_than_the_readers_ttl(integrity: bool) -> None:
    entry = timed(3_600_000, integrity=integrity)
    read = reader(integrity=integrity).read(KEY, entry)
    assert read == (Charges(charges=1), False)  # it still answers if the model raises
    assert reader(ttl=None, integrity=integrity).read(KEY, entry).fresh


def test_a_shorter_ttl_counts_for_the_entries_of_a_longer_one() -> None:
    entry = timed(0)
    assert not reader(ttl=TTL // 2).read(KEY, entry).fresh
    assert reader(NOW + TTL // 2, ttl=TTL // 2).read(KEY, entry).fresh


def test_an_entry_without_a_time_is_fresh() -> None:
    for integrity in (False, True):
        entry = Codec(Charges, integrity=integrity).encode(KEY, Charges(charges=1))
        assert reader(integrity=integrity).read(KEY, entry) == (Charges(charges=1), True)


def test_what_can_not_be_decoded_is_not_fresh() -> None:
    for entry in (b"{}", b"{", timed(0)[:-1], b""):
        assert reader().read(KEY, entry) == (None, False)
