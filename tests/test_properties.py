"""Properties of keys, entries and rounding, over every schema of the catalogue.

What "the same" means is said here once more, in other words than the library's: `picture`
shows all that a model could see of a value, and is built on pickle's protocol wherever a type
is not spelled out. Keys must be the same where pictures are, and nowhere else.
"""

from __future__ import annotations

import array
import collections
import copy
import copyreg
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import io
import itertools
import math
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading
import time
import types
import uuid
import weakref
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import pydantic
import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import TypeAliasType

from model_cache import ConfigurationError, NotCacheableError, RedisCachingDecorator
from model_cache.binding.fingerprint import fingerprint
from model_cache.binding.schemas import path_tree
from model_cache.entries.codec import Codec, EntryRefusedError
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.serders import JSON, MESSAGE_PACK
from model_cache.keys.canonical import Selection, Tree
from model_cache.keys.key import KeyMaker, Namespace
from model_cache.keys.rounding import Rounder
from tests import catalogue
from tests.catalogue import CASES, Case
from tests.models import Charges, FunctionModel
from tests.servers import Server

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict

chances = st.builds(random.Random, st.integers(0, 2**32))
fewer_examples = settings(max_examples=max(20, settings().max_examples // 3))
each_case = pytest.mark.parametrize("case", CASES, ids=str)
KEYS = KeyMaker(Namespace(None, "catalogue", "1"))

# --- what a model could see of a value


def picture(value: Any, *, fields_set: bool = False) -> Any:
    """Return nested tuples, equal for two values if no model could tell them apart."""
    see = functools.partial(picture, fields_set=fields_set)
    cls = type(value)
    if value is None or isinstance(value, (bool, type, types.FunctionType)):
        return (cls, value)
    if isinstance(value, enum.Enum):
        added = {name: item for name, item in vars(value).items() if name.strip("_") == name}
        return (cls, value._name_, see(value._value_), _attributes(added, see))
    if isinstance(value, BaseModel):
        extra, private = value.__pydantic_extra__ or {}, value.__pydantic_private__ or {}
        return (
            cls,
            _attributes(vars(value), see),
            _attributes(_slots(value), see),
            tuple((name, see(item)) for name, item in extra.items()),
            _attributes(private, see),
            frozenset(value.__pydantic_fields_set__) if fields_set else None,
        )
    if isinstance(value, (np.ndarray, np.generic)):
        kind = cls if isinstance(value, np.ndarray) else np.generic
        return (kind, *_dtype(value.dtype), value.shape, _layout(value), value.tobytes())
    if isinstance(value, dt.tzinfo):
        return _zone(value)
    if isinstance(value, (Decimal, pathlib.PurePath)):
        return (cls, repr(value))
    if isinstance(value, uuid.UUID):
        return (cls, value.int, value.is_safe)
    for base, content in _BUILTINS.items():
        if isinstance(value, base):
            attributes = {**getattr(value, "__dict__", {}), **_slots(value)}
            factory = see(getattr(value, "default_factory", None))
            return (cls, content(value, see), factory, _attributes(attributes, see))
    reduce: Any = copyreg.dispatch_table.get(cls, lambda value: value.__reduce_ex__(4))
    reduced = reduce(value)
    if isinstance(reduced, str):
        return (cls, reduced)
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(state, dict):
        state = sorted(state.items())
    parts = (arguments, state, items and list(items), pairs and list(pairs))
    return (cls, see(function) if callable(function) else function, *map(see, parts))


_BUILTINS: dict[type, Callable[[Any, Callable[[Any], Any]], Any]] = {
    int: lambda value, see: int.__add__(value, 0),
    float: lambda value, see: struct.pack("d", value).hex(),
    str: lambda value, see: str.__str__(value),
    bytes: lambda value, see: bytes.hex(value),
    bytearray: lambda value, see: bytes(value).hex(),
    list: lambda value, see: tuple(map(see, list.__iter__(value))),
    tuple: lambda value, see: tuple(map(see, tuple.__iter__(value))),
    dict: lambda value, see: tuple((see(name), see(item)) for name, item in dict.items(value)),
    set: lambda value, see: frozenset(collections.Counter(map(see, value)).items()),
    frozenset: lambda value, see: frozenset(collections.Counter(map(see, value)).items()),
    types.BuiltinFunctionType: lambda value, see: value,
}


def _attributes(named: dict[str, Any], see: Callable[[Any], Any]) -> Any:
    return tuple((name, see(named[name])) for name in sorted(named))


def _slots(value: Any) -> dict[str, Any]:
    names: list[str] = copyreg._slotnames(type(value))  # type: ignore[attr-defined]
    pydantics = BaseModel.__slots__
    return {
        name: getattr(value, name)
        for name in names
        if name not in pydantics and hasattr(type(value), name) and _is_there(value, name)
    }


def _is_there(value: Any, name: str) -> bool:
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True


def _zone(zone: dt.tzinfo) -> Any:
    if isinstance(zone, zoneinfo.ZoneInfo):
        return ("zone", zone.key)
    assert type(zone) in (dt.timezone, pydantic_core.TzInfo)
    return ("offset", zone.utcoffset(None), zone.tzname(None))


def _dtype(dtype: Any) -> Any:
    fields = dtype.fields or {}
    return (dtype, dtype.char, dtype.isalignedstruct, *(_dtype(fields[name][0]) for name in fields))


def _layout(array: Any) -> Any:
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous:
        return (flags.c_contiguous, flags.f_contiguous)
    return tuple(n for n, size in zip(array.strides, array.shape, strict=True) if size > 1)


def objects(value: Any) -> Iterator[Any]:
    """Yield a value and all that it holds."""
    yield value
    inside: list[Any] = []
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        inside += {**getattr(value, "__dict__", {}), **_slots(value)}.values()
        inside += (getattr(value, "__pydantic_extra__", None) or {}).values()
    elif isinstance(value, dict):
        inside += value.values()
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        inside += value
    for item in inside:
        yield from objects(item)


# --- copies, and values that nearly are


def rebuilt(value: Any) -> Any:
    """Return an equal value made anew, its parts put together in another order."""
    cls: Any = type(value)
    if isinstance(value, BaseModel):
        made = cls.__new__(cls)
        extra, private = value.__pydantic_extra__, value.__pydantic_private__
        parts = {"__dict__": _backwards(vars(value)), **_backwards(_slots(value))}
        parts["__pydantic_fields_set__"] = set(value.__pydantic_fields_set__)
        if not cls.__pydantic_root_model__:
            parts["__pydantic_extra__"] = extra and {name: rebuilt(extra[name]) for name in extra}
            parts["__pydantic_private__"] = private and _backwards(private)
        for name, part in parts.items():
            object.__setattr__(made, name, part)
        return made
    if dataclasses.is_dataclass(value):
        made = object.__new__(cls)
        for name, item in _backwards({**getattr(value, "__dict__", {}), **_slots(value)}).items():
            object.__setattr__(made, name, item)
        return made
    if cls in (list, tuple):
        return cls(map(rebuilt, value))
    if cls in (set, frozenset):
        return cls(reversed([rebuilt(item) for item in value]))
    if cls is dict:
        return {rebuilt(name): rebuilt(item) for name, item in value.items()}
    if cls is str:
        return "".join(list(value))
    if cls is float:
        return struct.unpack("d", struct.pack("d", value))[0]
    if cls is np.ndarray:
        contiguous = value.flags.c_contiguous or value.flags.f_contiguous
        return value.copy(order="A") if contiguous else value[...]
    return copy.deepcopy(value)


def _backwards(named: dict[str, Any]) -> dict[str, Any]:
    return {name: rebuilt(named[name]) for name in reversed(named)}


def revalidated(value: BaseModel) -> BaseModel | None:
    fields = {**vars(value), **(value.__pydantic_extra__ or {})}
    try:
        return type(value).model_validate(
            fields["root"] if type(value).__pydantic_root_model__ else fields,
            by_alias=False,
            by_name=True,
        )
    except ValueError:
        return None


def nearly(value: Any, chance: random.Random) -> Iterator[Any]:
    """Yield values that look like this one, some of them equal to it, most of them not."""
    for attempt in _ATTEMPTS:
        with suppress(Exception):
            yield attempt(value)
    if isinstance(value, BaseModel):
        yield from mutants(value, chance)
    elif dataclasses.is_dataclass(value):
        yield {**getattr(value, "__dict__", {}), **_slots(value)}
        for field in dataclasses.fields(value):
            made = copy.copy(value)
            for near in (None, [getattr(value, field.name)], str(getattr(value, field.name))):
                object.__setattr__(made, field.name, near)
                yield copy.copy(made)
    elif type(value) in (list, tuple, dict) and value:
        place = next(iter(value)) if isinstance(value, dict) else 0
        for near in nearly(value[place], chance):
            changed = dict(value) if isinstance(value, dict) else list(value)
            changed[place] = near
            yield type(value)(changed)


def _sized(value: Any) -> Any:
    if not hasattr(value, "__len__"):  # an IP network yields up to 2**128 addresses
        raise TypeError
    return value


_ATTEMPTS: list[Callable[[Any], Any]] = [
    lambda value: None,
    lambda value: 0,
    str,
    repr,
    int,
    float,
    bool,
    Decimal,
    *(
        (lambda value, cls=cls: cls(_sized(value)))
        for cls in (list, tuple, set, frozenset, dict, collections.deque, catalogue.Rows)
    ),
    lambda value: bytearray(b"" + value),
    collections.OrderedDict,
    lambda value: collections.defaultdict(int, value),
    np.array,
    np.float64,
    np.int64,
    np.str_,
    SecretStr,
    catalogue.Token,
    catalogue.Metres,
    catalogue.Count,
    catalogue.Options,
    lambda value: -value,
    lambda value: value + 1,
    lambda value: value + "\0",
    lambda value: value.encode("utf-8", "surrogatepass"),
    lambda value: value.decode("latin-1"),
    lambda value: type(value)(reversed(value)),
    lambda value: dict(reversed(value.items())),
    lambda value: value[1:],
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"root": value},
    lambda value: value.value,
    lambda value: value.get_secret_value(),
    lambda value: value.replace(fold=1 - value.fold),
    lambda value: value.replace(tzinfo=dt.UTC),
    lambda value: value.replace(tzinfo=dt.timezone(dt.timedelta(0), "mine")),
    lambda value: value.replace(tzinfo=dt.timezone(value.utcoffset())),
    lambda value: value.replace(tzinfo=pydantic_core.TzInfo(value.utcoffset().total_seconds())),
    lambda value: value.replace(tzinfo=catalogue.berlin),
    lambda value: value.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    lambda value: value.date(),
    lambda value: value.isoformat(),
    lambda value: value.quantize(Decimal("0.1")),
    lambda value: value.T,
    lambda value: value.reshape(-1),
    lambda value: value.reshape((1, *value.shape)),
    lambda value: value.astype("f4"),
    lambda value: value.view(value.dtype.newbyteorder()),
    lambda value: value.tolist(),
    lambda value: np.asfortranarray(value),
    lambda value: np.repeat(value, 2, axis=-1)[..., ::2],
    lambda value: value.view(np.matrix),
    lambda value: pathlib.PurePosixPath(value),
]


def mutants(model: BaseModel, chance: random.Random) -> Iterator[BaseModel]:
    """Yield the model with one thing changed, whether or not its schema would allow that.

    It is a thing in one of two fields that chance picks, or the fields as such.
    """
    names = list(vars(model))
    for name in chance.sample(names, min(2, len(names))):
        for near in nearly(vars(model)[name], chance):
            yield _changed(model, {name: near})
        missing = copy.copy(model)
        del vars(missing)[name]
        yield missing
    for one, two in itertools.pairwise(names):
        first: Any = vars(model)[one]
        second: Any = vars(model)[two]
        yield _changed(model, {one: second, two: first})
        if type(first) in (str, bytes) and type(first) is type(second):
            yield _changed(model, {one: first[:-1], two: first[-1:] + second})
            yield _changed(model, {one: first + second, two: second[:0]})
    yield _changed(model, {"undeclared": 1})
    for kept in ("__pydantic_extra__", "__pydantic_private__"):
        for more in ({"known": 1}, {"known": 1.0}, {"a": None}):
            made = copy.copy(model)
            object.__setattr__(made, kept, {**(getattr(model, kept) or {}), **more})
            yield made


def some_mutants(model: BaseModel, chance: random.Random, number: int) -> list[BaseModel]:
    near = list(mutants(model, chance))
    return chance.sample(near, min(number, len(near)))


def _changed(model: BaseModel, changes: dict[str, Any]) -> BaseModel:
    made = copy.copy(model)
    vars(made).update(changes)
    return made


def key(data: BaseModel) -> bytes | None:
    try:
        return KEYS.key(data)
    except NotCacheableError:
        return None


def assert_keys_tell_apart_what_differs(values: list[BaseModel]) -> None:
    keys: dict[Any, bytes] = {}
    pictures: dict[bytes, Any] = {}
    for value in values:
        made = key(value)
        if made is not None:
            seen = picture(value)
            assert keys.setdefault(seen, made) == made, "one input, two keys"
            assert pictures.setdefault(made, seen) == seen, "two inputs, one key"


# --- keys


@each_case
def test_a_copy_of_an_input_has_the_same_key(case: Case) -> None:
    @given(case.instances)
    def copies(value: BaseModel) -> None:
        expected = KEYS.key(value)
        assert KEYS.key(rebuilt(value)) == expected
        for made in (copy.copy(value), copy.deepcopy(value)):
            # pydantic's own copies lack what a class keeps in slots; numpy's have no gaps.
            assert KEYS.key(made) == expected or picture(made) != picture(value)

    copies()


@each_case
def test_inputs_share_a_key_only_if_they_are_the_same(case: Case) -> None:
    @given(st.lists(case.instances, min_size=2, max_size=4), chances)
    def partition(values: list[BaseModel], chance: random.Random) -> None:
        again = [made for made in map(revalidated, values) if made is not None]
        near = some_mutants(values[0], chance, 20)
        assert_keys_tell_apart_what_differs([*values, *again, *near])

    partition()


@given(st.tuples(*(case.instances for case in CASES)))
def test_inputs_of_different_schemas_do_not_share_a_key(values: tuple[BaseModel, ...]) -> None:
    assert_keys_tell_apart_what_differs(list(values))


def test_texts_that_look_like_the_form_of_texts_do_not_share_a_key() -> None:
    words = ["".join(letters) for n in range(3) for letters in itertools.product("s1:;", repeat=n)]
    pairs = list(itertools.product(words, repeat=2))
    values: list[BaseModel] = [catalogue.Texts(first=a, second=b, third="") for a, b in pairs]
    for arrange in (
        lambda a, b: [a, b],
        lambda a, b: [[a], b],
        lambda a, b: [[a, b]],
        lambda a, b: [a + b],
        lambda a, b: {a: b},
        lambda a, b: {a.encode(), b},
        lambda a, b: (a.encode(), b.encode()),
    ):
        values += [catalogue.Anything(value=arrange(a, b)) for a, b in pairs]
    assert_keys_tell_apart_what_differs(values)


def test_the_picture_itself_tells_apart_what_looks_alike() -> None:
    alike: list[Any] = [1, 1.0, True, "1", b"1", Decimal(1), np.int64(1), np.float64(1), [1], (1,)]
    alike += [0, 0.0, -0.0, False, None, "", b"", [], (), {}, set(), frozenset(), math.nan]
    alike += [{1: 2, 3: 4}, {3: 4, 1: 2}, {"1": 2, 3: 4}, catalogue.Token("1"), SecretStr("1")]
    alike += [catalogue.Color.red, "red", catalogue.Level.low, catalogue.Mode.a, {1}, {True}, {1.0}]
    alike += [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, fold=1), dt.date(2024, 1, 1)]
    alike += [Decimal("1.0"), Decimal("NaN"), Decimal("sNaN"), np.array([1]), np.array([[1]])]
    assert len(set(map(picture, alike))) == len(alike)
    assert picture(math.nan) == picture(float("nan")) != picture(-math.nan)


SELECTABLE = {
    catalogue.Outer: ["inner", "inner.left", "several", "several.right", "named.left", "maybe"],
    catalogue.Dataclasses: ["plain.x", "plain.note", "slots.x", "checked.points.x", "either.y"],
    catalogue.Lookalikes: ["value", "value.left", "value.right"],
    catalogue.Boxes: ["numbers.value", "inner.value.left", "nested.value", "nested.value.value"],
    catalogue.Node: ["value", "children.value", "children.children", "parent"],
    catalogue.Open: ["known"],
    catalogue.Private: ["shown"],
    catalogue.Texts: ["first", "second"],
}


def selected(value: Any, tree: Tree, *, keep: bool) -> Any:
    """Return the picture of what counts of a value."""
    if not isinstance(value, BaseModel) and not dataclasses.is_dataclass(value):
        if type(value) is dict:
            return [(picture(name), selected(value[name], tree, keep=keep)) for name in value]
        if type(value) in (list, tuple):
            return (type(value), [selected(item, tree, keep=keep) for item in value])
        return picture(value)
    state = {**getattr(value, "__dict__", {}), **_slots(value)}
    cls: Any = type(value)
    declared = cls.model_fields if isinstance(value, BaseModel) else cls.__dataclass_fields__
    if keep and not declared.keys() & tree.keys():
        return picture(value)
    seen: list[Any] = [type(value)]
    for name in sorted(state):
        below = tree.get(name, {})
        if name not in tree:
            if not keep:
                seen.append((name, picture(state[name])))
        elif below is not None:
            seen.append((name, selected(state[name], below, keep=keep)))
        elif keep:
            seen.append((name, picture(state[name])))
    if isinstance(value, BaseModel) and not keep:
        seen += [picture(value.__pydantic_extra__ or {}), picture(value.__pydantic_private__ or {})]
    return seen


@pytest.mark.parametrize("schema", SELECTABLE, ids=lambda schema: schema.__name__)
def test_a_selection_of_fields_counts_and_nothing_else(schema: type[BaseModel]) -> None:
    (instances, *_) = [case.instances for case in CASES if case.schema is schema]

    @given(
        st.lists(instances, min_size=2, max_size=4),
        st.sets(st.sampled_from(SELECTABLE[schema]), min_size=1),
        st.booleans(),
        chances,
    )
    def partition(
        values: list[BaseModel], paths: set[str], keep: bool, chance: random.Random
    ) -> None:
        tree = path_tree(paths)
        maker = KeyMaker(Namespace(None, "m", "1"), selection=Selection(tree, keep))
        keys: dict[str, bytes] = {}
        pictures: dict[bytes, str] = {}
        for value in [*values, *some_mutants(values[0], chance, 20)]:
            try:
                made = maker.key(value)
            except NotCacheableError:
                continue
            seen = repr(selected(value, tree, keep=keep))
            assert keys.setdefault(seen, made) == made, "what does not count made a difference"
            assert pictures.setdefault(made, seen) == seen, "what counts made no difference"

    partition()


# --- entries

KEY = b"catalogue/1/key"
SERDERS = (JSON, MESSAGE_PACK)
COMPRESSORS_OF_OURS = [COMPRESSORS.named(name) for name in ("snappy", "zstd", "lz4")]


def comes_back(writer: Codec, readers: list[Codec], prediction: BaseModel) -> bool:
    """Whether a prediction becomes an entry; if so, each reader must give it back as it was."""
    try:
        entry = writer.encode(KEY, prediction)
    except EntryRefusedError:
        return False
    for reader in readers:
        read = reader.decode(KEY, entry)
        assert read is not prediction
        assert type(read) is type(prediction)
        assert picture(read, fields_set=True) == picture(prediction, fields_set=True)
        assert reader.decode(KEY, entry) is not read, "not an object of its own"
    return True


@each_case
def test_a_prediction_comes_back_as_it_was_or_is_refused(case: Case) -> None:
    outcomes: collections.Counter[bool] = collections.Counter()
    plain = [Codec(case.schema, serder=serder) for serder in SERDERS]
    sealed = [Codec(case.schema, serder=serder, integrity=True) for serder in SERDERS]

    @given(case.instances)
    def back_and_forth(prediction: BaseModel) -> None:
        kept = [
            comes_back(writer, readers, prediction)
            for readers in (plain, sealed)
            for writer in readers
        ]
        outcomes.update(kept)
        assert all(kept) or not case.kept, "an ordinary prediction is not cached"

    back_and_forth()
    if outcomes[False]:
        print(f"{case}: {outcomes[False]} of {outcomes.total()} predictions refused")


@each_case
def test_a_compressed_prediction_comes_back_as_it_was_or_is_refused(case: Case) -> None:
    many = create_model("Many", items=(list[case.schema], ...))  # type: ignore[name-defined]
    codecs = [
        Codec(many, serder=serder, compressor=compressor, integrity=integrity)
        for integrity in (False, True)
        for serder in SERDERS
        for compressor in COMPRESSORS_OF_OURS
    ]
    plain = Codec(many)
    saved = []

    @fewer_examples
    @given(case.instances, st.sampled_from(codecs))
    def back_and_forth(prediction: BaseModel, codec: Codec) -> None:
        repeated = many.model_construct(items=[prediction] * 10)
        kept = comes_back(codec, [codec], repeated)
        assert kept or not case.kept, "an ordinary prediction is not cached"
        if kept:
            saved.append(len(plain.encode(KEY, repeated)) - len(codec.encode(KEY, repeated)))

    back_and_forth()
    assert not case.kept or max(saved) > 0, "nothing was compressed"


# --- predictions


def decorated(model: FunctionModel, **options: Any) -> RedisCachingDecorator:
    decorator: RedisCachingDecorator = RedisCachingDecorator(**options).set_model(model)
    return decorator


@each_case
def test_a_hit_is_what_the_model_would_have_said(case: Case, server: Server) -> None:
    """The model numbers what it can tell apart, so any mistaken hit has a wrong number."""
    numbers: dict[Any, int] = {}

    def number(data: BaseModel) -> Charges:
        return Charges(charges=numbers.setdefault(picture(data), len(numbers)))

    model = FunctionModel(case.schema, Charges, number)
    with decorated(model, url=server.url, timeout=1.0) as decorator:

        @fewer_examples
        @given(st.lists(case.instances, min_size=1, max_size=3), chances)
        def predict(inputs: list[BaseModel], chance: random.Random) -> None:
            for data in [*inputs, *some_mutants(inputs[0], chance, 5), *inputs]:
                before = picture(data)
                assert decorator.predict(data) == number(data)
                assert picture(data) == before

        predict()
        assert decorator.stats().hits


# --- reduced precision

NOWHERE = "redis://127.0.0.1:1/0"  # nothing listens there: each prediction is the model's own


@each_case
def test_the_model_sees_what_the_key_sees_and_the_caller_keeps_its_own(case: Case) -> None:
    model = FunctionModel(case.schema, Charges, lambda data: Charges(charges=1))
    rounding = decorated(model, url=NOWHERE, reduced_precision=True, number_of_places=1)
    plain = decorated(model, url=NOWHERE)

    @given(case.instances)
    def predict(data: BaseModel) -> None:
        before, inside = picture(data), list(map(id, objects(data)))
        expected = rounding.cache_key(data)
        rounding.predict(data)
        assert picture(data) == before
        assert list(map(id, objects(data))) == inside
        seen = model.calls.pop()
        assert plain.cache_key(seen) == expected
        assert rounding.cache_key(seen) == expected, "rounded twice is rounded otherwise"

    predict()


class Measured(BaseModel):
    number: float
    exact: Decimal = Decimal("0.0000")
    many: list[float] = []
    maybe: float | None = None


near_numbers = (
    st.floats(-3, 3) | st.integers(-3000, 3000).map(lambda number: number / 1000) | catalogue.floats
)
near_decimals = st.integers(-30000, 30000).map(lambda number: Decimal(number).scaleb(-4))
measured = st.builds(
    Measured,
    number=near_numbers,
    exact=near_decimals,
    many=st.lists(near_numbers, max_size=2),
    maybe=st.none() | near_numbers,
)


def correctly_rounded(value: Any, places: int) -> Any:
    """Return the nearest multiple, half to even, by exact arithmetic."""
    if isinstance(value, list):
        return [correctly_rounded(item, places) for item in value]
    if value is None or not math.isfinite(value):
        return repr(value)
    with decimal.localcontext(prec=1000):
        rounded = Decimal(value).quantize(Decimal(1).scaleb(-places), decimal.ROUND_HALF_EVEN)
    return rounded if rounded else abs(rounded)


@given(measured, measured, st.integers(0, 3))
def test_inputs_share_a_key_only_if_they_round_to_the_same(
    one: Measured, other: Measured, places: int
) -> None:
    model = FunctionModel(Measured, Charges)
    decorator = decorated(model, url=NOWHERE, reduced_precision=True, number_of_places=places)
    rounded = [
        [correctly_rounded(value, places) for value in vars(data).values()] for data in (one, other)
    ]
    same_key = decorator.cache_key(one) == decorator.cache_key(other)
    assert same_key == (rounded[0] == rounded[1])


class Positive(BaseModel):
    share: float = Field(gt=0)
    other: float = 0.0


class Checksummed(BaseModel):
    parts: list[float]
    total: float

    @model_validator(mode="after")
    def parts_make_the_total(self) -> Checksummed:
        if sum(self.parts) != self.total:
            raise ValueError
        return self


class Shouting(BaseModel):
    number: float
    text: str

    @field_validator("text")
    @classmethod
    def louder(cls, text: str) -> str:
        return text + "!"


@pytest.mark.parametrize(
    "data",
    [
        Positive(share=0.04, other=1.26),
        Checksummed(parts=[0.25, 0.25], total=0.5),
        Shouting(number=1.26, text="hey"),
    ],
    ids=repr,
)
def test_what_would_not_be_valid_rounded_goes_unrounded(data: BaseModel) -> None:
    assert Rounder(1)(data) is data


class HasPoints(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any
    beside: float = 1.26


class Coordinates(NamedTuple):
    x: float


class LabelledCoordinates(Coordinates):
    label: str


@dataclasses.dataclass
class Limited:
    x: float
    limit: ClassVar[float] = 1.26
    plain: ClassVar[int] = 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1.26], [1.3]),
        ((1.26, None, True), (1.3, None, True)),
        ({"a": {"b": [1.26]}}, {"a": {"b": [1.3]}}),
        ({1.26}, {1.3}),
        (Decimal("1.26"), Decimal("1.3")),
        (Positive(share=1.26), Positive(share=1.3)),
        (catalogue.Point(1, 1.26), catalogue.Point(1, 1.3)),
        (catalogue.CheckedPoint(1, 1.26), catalogue.CheckedPoint(1, 1.3)),
        (catalogue.SlotsPoint(1, 1.26), catalogue.SlotsPoint(1, 1.3)),
        (catalogue.CheckedSlotsPoint(1, 1.26), catalogue.CheckedSlotsPoint(1, 1.3)),
        (collections.deque([1.26]), collections.deque([1.3])),
        (Coordinates(1.26), Coordinates(1.3)),
        (Limited(1.26), Limited(1.3)),
    ],
    ids=repr,
)
def test_numbers_are_rounded_wherever_they_are(before: Any, after: Any) -> None:
    rounded = Rounder(1)(HasPoints(value=before))
    assert picture(rounded) == picture(HasPoints(value=after, beside=1.3))


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "before", "after"),
    [
        ("f8", 1.26, 1.3),
        ("f4", 1.26, 1.3),
        ("f2", 1.26, 1.3),
        ("f2", 7000.0, 7000.0),  # ten times as much is infinite
        ("f4", 1e38, 1e38),
        ("f8", 1e308, 1e308),
        ("f8", math.inf, math.inf),
    ],
)
def test_arrays_are_rounded_and_never_become_infinite(
    dtype: str, before: float, after: float, shape: tuple[int, ...]
) -> None:
    data = catalogue.Arrays(
        array=np.full(shape, before, dtype), scalar=np.dtype(dtype).type(before)
    )
    with np.errstate(all="ignore"):
        rounded = Rounder(1)(data)
    expected = np.full(shape, after, dtype)
    assert picture(vars(rounded)["array"]) == picture(expected)
    assert picture(vars(rounded)["scalar"]) == picture(np.dtype(dtype).type(after))


def test_an_array_of_another_class_stays_one() -> None:
    masked = np.ma.masked_array([1.26, 9.99], [False, True])
    seen: Any = Rounder(1)(catalogue.Arrays(array=masked, scalar=1.26))
    assert type(seen.array) is type(masked)
    assert seen.array.mask.tolist() == [False, True]


class Normalizing(BaseModel):
    """Its validators change what they are given in place."""

    inner: Positive
    items: list[float]
    number: float = 1.26

    @field_validator("items", mode="before")
    @classmethod
    def in_order(cls, items: list[float]) -> list[float]:
        items.sort()
        return items

    @model_validator(mode="after")
    def twice_as_much(self) -> Normalizing:
        self.inner.share *= 2
        return self


@dataclasses.dataclass
class NormalizingPoint:
    items: list[float]
    number: float = 1.26

    def __post_init__(self) -> None:
        self.items.sort()


@pydantic.dataclasses.dataclass
class NormalizingCheckedPoint:
    items: list[float]
    number: float = 1.26

    @field_validator("items", mode="before")
    @classmethod
    def in_order(cls, items: list[float]) -> list[float]:
        items.sort()
        return items


def out_of_order(
    cls: Callable[..., Any], items: tuple[float, float] = (2.0, 1.0), **parts: Any
) -> Any:
    """Return an object whose items came out of order after it was made."""
    made = cls(items=[], **parts)
    made.items = list(items)
    return made


@pytest.mark.parametrize(
    "data",
    [
        out_of_order(Normalizing, inner=Positive(share=0.5)),
        catalogue.Anything(value=out_of_order(NormalizingPoint)),
        catalogue.Anything(value=out_of_order(NormalizingCheckedPoint)),
        catalogue.Anything(value=out_of_order(NormalizingPoint, items=(2.04, 1.04))),
        catalogue.Anything(value=out_of_order(NormalizingCheckedPoint, items=(2.04, 1.04))),
    ],
    ids=repr,
)
def test_a_class_that_works_in_place_does_not_reach_the_callers_input(data: BaseModel) -> None:
    before = picture(data)
    seen = Rounder(1)(data)
    assert picture(data) == before
    for inside in objects(seen):
        assert not isinstance(inside, Positive) or inside.share == 1.0
        assert not isinstance(inside, list) or inside == sorted(inside, reverse=True)


class Remembering(BaseModel):
    number: float
    _twice: float = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._twice = self.number * 2


@dataclasses.dataclass
class RememberingToo:
    number: float

    def __post_init__(self) -> None:
        self._twice = self.number * 2


class HoldsRememberingToo(BaseModel):
    value: RememberingToo


@pytest.mark.parametrize(
    "made", [Remembering, lambda number: HoldsRememberingToo(value=RememberingToo(number))]
)
def test_the_model_never_sees_an_object_that_its_schema_does_not_make(
    made: Callable[..., Any],
) -> None:
    rounded: Any = Rounder(1)(made(number=1.26))
    holder = getattr(rounded, "value", rounded)
    assert holder._twice == holder.number * 2


@dataclasses.dataclass
class Tagged:
    number: float

    def __post_init__(self) -> None:
        self.tag = "made"


def test_rounding_keeps_what_was_set_beside_the_fields_of_a_dataclass() -> None:
    tagged = Tagged(1.26)
    tagged.tag = "by hand"
    seen: Any = Rounder(1)(catalogue.Anything(value=tagged))
    assert seen.value.tag == "by hand"


def test_rounding_keeps_what_was_set_beside_the_fields_of_a_named_tuple() -> None:
    labelled = LabelledCoordinates(1.26)
    labelled.label = "by hand"
    seen: Any = Rounder(1)(catalogue.Anything(value=labelled))
    assert seen.value.label == "by hand"


def test_rounding_keeps_what_was_set_in_a_slot_of_a_model() -> None:
    seen: Any = Rounder(1)(catalogue.with_slot(1.26, "by hand"))
    assert seen.note == "by hand"


class Applicant(TypedDict):
    income: float
    partner: Positive


class Loan(BaseModel):
    applicant: Applicant
    amount: float = 0.0


def loan(income: float, share: float) -> Loan:
    return Loan(applicant={"income": income, "partner": Positive(share=share)})


@pytest.mark.parametrize(
    ("path", "counts"),
    [("applicant.income", loan(1, 2)), ("applicant.partner.share", loan(2, 1))],
)
def test_a_path_into_a_typed_dict_means_what_it_says_or_is_refused(path: str, counts: Loan) -> None:
    model = FunctionModel(Loan, Charges)
    try:
        ignoring = decorated(model, url=NOWHERE, ignored_fields=[path])
        rounding = decorated(
            model, url=NOWHERE, reduced_precision_fields=[path], number_of_places=1
        )
    except ConfigurationError:
        return
    both = loan(2, 2)
    assert ignoring.cache_key(loan(1, 1)) != ignoring.cache_key(counts)
    assert ignoring.cache_key(counts) == ignoring.cache_key(both)
    rounding.predict(loan(1.26, 1.26))
    rounded = loan(1.3, 1.26) if path == "applicant.income" else loan(1.26, 1.3)
    assert model.calls.pop() == rounded


class Handle:
    """Nothing that the library knows of, nor can be copied."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a handle can't be copied")


class HoldsHandle(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Handle
    number: float


def test_an_ignored_field_that_has_no_canonical_form_does_not_stop_the_rounding() -> None:
    model = FunctionModel(HoldsHandle, Charges, lambda data: Charges(charges=1))
    decorator = decorated(
        model, url=NOWHERE, ignored_fields=["handle"], reduced_precision=True, number_of_places=1
    )
    decorator.predict(HoldsHandle(handle=Handle(), number=1.26))
    assert model.calls.pop().number == 1.3


def test_the_process_wide_decimal_context_does_not_change_the_rounding() -> None:
    program = """
import decimal
from tests.test_properties import Decimal, Measured, Rounder
decimal.DefaultContext.rounding = decimal.ROUND_UP
decimal.DefaultContext.Emax = 1
decimal.setcontext(decimal.Context(prec=2))
print(Rounder(1)(Measured(number=0, exact=Decimal("123.41"))).exact)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert finished.stdout == "123.4\n"


# --- what a type keeps out of sight


class Defaulted(collections.defaultdict[str, int]):
    pass


@dataclasses.dataclass(init=False)
class Samples(array.array):  # type: ignore[type-arg]
    unit: str = "m"


@dataclasses.dataclass(init=False)
class Task(functools.partial):  # type: ignore[type-arg]
    name: str = "task"


@dataclasses.dataclass(init=False)
class Price(Decimal):
    currency: str = "EUR"


@dataclasses.dataclass(init=False)
class Dice(random.Random):
    name: str = "dice"


def moment(zone: str, offset: int) -> time.struct_time:
    return time.struct_time((*time.gmtime(0), zone, offset))


def without(data: BaseModel, name: str, **attributes: Any) -> BaseModel:
    made = _changed(data, attributes)
    del vars(made)[name]
    return made


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (collections.defaultdict(lambda: 1), collections.defaultdict(lambda: 2)),
        (
            collections.defaultdict(functools.partial(int, 1)),
            collections.defaultdict(functools.partial(int, 2)),
        ),
        (collections.defaultdict([1].copy), collections.defaultdict([2].copy)),
        (Defaulted(int), Defaulted(lambda: 7)),
        (moment("CET", 3600), moment("XYZ", 0)),
        (os.stat_result(range(16)), os.stat_result([*range(10), *range(100, 106)])),
        (Samples("d", [1.0]), Samples("d", [2.0])),
        (Task(int, 1), Task(int, 2)),
        (Price(1), Price(2)),
        (Dice(1), Dice(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_differs_out_of_sight_does_not_share_a_key(one: Any, other: Any) -> None:
    made = key(catalogue.Anything(value=one))
    assert made is None or made != key(catalogue.Anything(value=other))


def test_undeclared_attributes_count_even_if_an_ignored_field_is_missing() -> None:
    ignoring = KeyMaker(Namespace(None, "m", "1"), selection=Selection({"right": None}, keep=False))
    one = without(catalogue.Inner(), "right", undeclared=1)
    other = without(catalogue.Inner(), "right", undeclared=2)
    assert ignoring.key(one) != ignoring.key(other)


# --- schemas that change


T = TypeVar("T")
alias: Any = TypeAliasType
typed_dict: Any = TypedDict
many = alias("Many", list[T], type_params=(T,))  # type: ignore[valid-type]


def grown(form: str, *, more: bool) -> type[BaseModel]:
    """Return an output schema before and after a field with a default came to a part of it."""
    fields: dict[str, Any] = {"old": (int, 0), **({"new": (int, 0)} if more else {})}
    model: Any = create_model("Part", **fields)
    parts: dict[str, Any] = {
        "model": model,
        "dataclass": dataclasses.make_dataclass("Part", [(name, int, 0) for name in fields]),
        "named tuple": collections.namedtuple("Part", [*fields], defaults=[0] * len(fields)),
        "typed dict": typed_dict("Part", dict.fromkeys(fields, int), total=False),
        "alias": alias("Part", list[model]),
        "generic alias": many[model],
        "generic model": catalogue.Box[model],
        "generic dataclass": catalogue.Carton[model],
    }
    if form in parts:
        return create_model("Out", part=(parts[form], ...))
    members = {
        "__module__": __name__,
        "__annotations__": {"__pydantic_extra__": dict[str, model]},
        "model_config": ConfigDict(extra="allow"),
    }
    return type("Out", (BaseModel,), members)


@pytest.mark.parametrize(
    "form",
    [
        "model",
        "dataclass",
        "named tuple",
        "typed dict",
        "alias",
        "generic alias",
        "generic model",
        "generic dataclass",
        "extra",
    ],
)
def test_a_field_added_to_a_part_of_the_output_makes_new_keys(form: str) -> None:
    before, after = grown(form, more=False), grown(form, more=True)
    assert fingerprint(before) == fingerprint(grown(form, more=False))
    assert fingerprint(before) != fingerprint(after)


# --- objects that are not as they should be


def _raise(*_: Any) -> Any:
    raise LookupError("leave me alone")


RAISING: dict[str, Any] = dict.fromkeys(
    [name for name in vars(int) if name.startswith("__") and name not in ("__new__", "__doc__")]
    + ["__len__", "__iter__", "__contains__", "__getitem__", "__getattr__"]
    + ["items", "keys", "values"],
    _raise,
)
RAISING |= {"__class__": property(_raise), "__dict__": property(_raise)}
Raising = type("Raising", (), RAISING)
RaisingText = type("RaisingText", (str,), RAISING)
RaisingDict = type("RaisingDict", (dict,), RAISING)


class RaisingModel(BaseModel):
    value: int = 0

    def __getattribute__(self, name: str) -> Any:
        raise LookupError("leave me alone")


class RaisingZone(dt.tzinfo):
    utcoffset = dst = tzname = _raise


class Unhashable(type):
    def __eq__(cls, other: object) -> bool:
        return False


class OfUnhashableClass(metaclass=Unhashable):
    pass


class Disguised:
    __class__ = catalogue.Anything  # type: ignore[assignment]


def cycle() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


def deep(levels: int) -> list[Any]:
    values: list[Any] = []
    for _ in range(levels):
        values = [values]
    return values


def in_itself() -> BaseModel:
    data = catalogue.Anything()
    data.value = {"again": (data,)}
    return data


half_built = catalogue.SlotsPoint.__new__(catalogue.SlotsPoint)
nameless = type("nameless", (), {"__module__": 7})

STRANGE: dict[str, Callable[[], Any]] = {
    "raising": Raising,
    "raising text": RaisingText,
    "raising dict": RaisingDict,
    "raising model": lambda: RaisingModel.__new__(RaisingModel),
    "raising zone": lambda: dt.datetime(2024, 1, 1, tzinfo=RaisingZone()),
    "of an unhashable class": OfUnhashableClass,
    "disguised": Disguised,
    "cycle": cycle,
    "model in itself": in_itself,
    "deep list": lambda: deep(100_000),
    "half-built model": lambda: catalogue.Anything.__new__(catalogue.Anything),
    "model without its fields": lambda: catalogue.Outer.model_construct(None, **{}),
    "half-built dataclass": lambda: half_built,
    "of a class without a name": nameless,
    "class": lambda: catalogue.Anything,
    "function": lambda: cycle,
    "module": lambda: math,
    "lock": threading.Lock,
    "generator": lambda: (item for item in "abc"),
    "exception": lambda: ValueError(1),
    "weak reference to nothing": lambda: weakref.proxy(Handle()),
    "memory": lambda: memoryview(b"abc"),
    "objects in an array": lambda: np.array([object()]),
    "masked array": lambda: np.ma.masked_array([1.26], [True]),
    "record array": lambda: np.array([[1.26]]).view(np.recarray),
    "zone without a key": lambda: dt.datetime(2024, 1, 1, tzinfo=keyless_zone()),
    "huge int": lambda: 10**10_000,
}


def keyless_zone() -> zoneinfo.ZoneInfo:
    # The shortest file that there is: version 1, one type of time, UTC.
    content = b"TZif" + bytes(16) + struct.pack(">6I", 0, 0, 0, 0, 1, 4)
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(content + bytes(6) + b"UTC\0"))


@pytest.mark.parametrize("places", [None, 1])
@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_object_has_a_key_or_a_reason_and_is_predicted(
    name: str, places: int | None
) -> None:
    model = FunctionModel(catalogue.Anything, Charges, lambda data: Charges(charges=1))
    options = {"reduced_precision": True, "number_of_places": places} if places else {}
    decorator = decorated(model, url=NOWHERE, **options)
    strange = STRANGE[name]()
    held = [strange, [strange], {"a": strange}, catalogue.Carton(strange), 1.26]
    for data in [catalogue.Anything.model_construct(value=value) for value in held] + [strange]:
        with suppress(NotCacheableError):
            assert decorator.cache_key(data).startswith("test_model/1.0.0/")
        assert outcome(decorator, data) == outcome(model, data)


def outcome(model: Any, data: Any) -> Any:
    try:
        return model.predict(data)
    except Exception as error:
        return type(error), str(error)
