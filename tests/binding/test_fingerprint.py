"""The fingerprint of an output schema changes with everything that affects decoding."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

import pytest
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    SkipValidation,
    Strict,
    StringConstraints,
    create_model,
    field_validator,
    model_validator,
    v1,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import NamedTuple, TypeAliasType, TypedDict

from model_cache import ConfigurationError, RedisCachingDecorator
from model_cache.binding.fingerprint import fingerprint
from tests.models import FunctionModel


def out(annotation: Any, default: Any = ...) -> bytes:
    """The fingerprint of a schema with one field."""
    return fingerprint(create_model("Out", value=(annotation, default)))


def part(**fields: Any) -> type[BaseModel]:
    made: type[BaseModel] = create_model("Part", **fields)
    return made


SMALL, LARGE = part(a=(int, 1)), part(a=(int, 1), b=(int, 2))
Unbound = TypeVar("Unbound")
# mypy refuses to see these made of values.
annotated: Any = Annotated
many: Any = list
mapping: Any = dict
alias: Any = TypeAliasType
type_variable: Any = TypeVar
new_type: Any = NewType
named_tuple_of: Any = NamedTuple
typed_dict_of: Any = TypedDict
decorated: Any = field_validator
decorated_model: Any = model_validator
made_model: Any = create_model


def bound(to: Any) -> Any:
    return type_variable("T", bound=to)


def one_of(*types: Any) -> Any:
    return type_variable("T", *types)


def animals(kind: Any, *names: str) -> Any:
    return kind("Animal", names)


def named_tuple(part: Any) -> Any:
    return named_tuple_of("Pair", [("first", part)])


def typed_dict(part: Any) -> Any:
    return typed_dict_of("Words", {"first": part})


def dataclass(part: Any) -> Any:
    return dataclasses.make_dataclass("Data", [("first", part)])


def generic_model(part: Any) -> Any:
    class Box(BaseModel, Generic[Unbound]):
        inside: Unbound

    box: Any = Box
    return box[part]


ROADS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda part: part,
    "a list": lambda part: many[part],
    "a union": lambda part: part | None,
    "Annotated": lambda part: annotated[part, "words"],
    "NewType": lambda part: new_type("Part", part),
    "NewType in a dict": lambda part: mapping[str, new_type("Part", part)],
    "the bound of a TypeVar": bound,
    "a constraint of a TypeVar": lambda part: one_of(part, str),
    "TypeAliasType": lambda part: alias("Part", part),
    "TypeAliasType of NewType": lambda part: alias("Part", many[new_type("P", part)]),
    "NamedTuple": named_tuple,
    "TypedDict": typed_dict,
    "dataclass": dataclass,
    "generic model": generic_model,
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SMALL, LARGE),
        (int, float),
        (animals(IntEnum, "CAT", "DOG"), animals(IntEnum, "BIRD", "CAT", "DOG")),
        (animals(Enum, "CAT"), animals(Enum, "DOG")),
        (Annotated[int, Field(lt=9)], Annotated[int, Field(lt=10)]),
        (Literal["a"], Literal["a", "b"]),
    ],
    ids=["field", "type", "member in front", "renamed member", "constraint", "literal"],
)
def test_a_change_on_any_path_to_a_part_changes_the_fingerprint(
    road: str, before: Any, after: Any
) -> None:
    assert out(ROADS[road](before)) == out(ROADS[road](before))
    assert out(ROADS[road](before)) != out(ROADS[road](after))


def at_most(limit: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        return min(value, limit)

    return check


class AtMost:
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, value: int) -> int:
        return min(value, self.limit)

    def check(self, value: int) -> int:
        return min(value, self.limit)


def double(value: int, by: int = 2) -> int:
    return value * by


def triple(value: int) -> int:
    return value * 3


def recursive() -> Callable[[int], int]:
    def check(value: int) -> int:
        return check(value - 1) if value > 9 else value

    return check


FUNCTIONS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "names": (lambda: double, lambda: triple),
    "lambdas": (lambda: lambda value: value, lambda: lambda value: value + 1),
    "constants": (lambda: lambda value: value + 1, lambda: lambda value: value + 2),
    "lambdas within": (
        lambda: lambda value: max(value, key=lambda _: 1),
        lambda: lambda value: max(value, key=lambda _: 2),
    ),
    "partials": (
        lambda: functools.partial(double, by=3),
        lambda: functools.partial(double, by=4),
    ),
    "closures": (lambda: at_most(1), lambda: at_most(2)),
    "callable objects": (lambda: AtMost(1), lambda: AtMost(2)),
    "bound methods": (lambda: AtMost(1).check, lambda: AtMost(2).check),
    "closures of themselves": (recursive, lambda: at_most(1)),
    "cached": (lambda: functools.cache(double), lambda: functools.cache(triple)),
    "builtins": (lambda: abs, lambda: round),
    "classes": (lambda: int, lambda: float),
}


def validated(function: Any) -> bytes:
    validators = {"check": field_validator("value")(function)}
    return fingerprint(create_model("Out", value=(int, 1), __validators__=validators))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "use",
    [
        lambda function: out(Annotated[int, AfterValidator(function)]),
        lambda function: out(list[Annotated[int, BeforeValidator(function)]]),
        lambda function: out(int, Field(default_factory=function)),
    ],
    ids=["after", "before, in a list", "default_factory"],
)
def test_functions_have_different_fingerprints(name: str, use: Callable[[Any], bytes]) -> None:
    before, after = FUNCTIONS[name]
    assert use(before()) == use(before())
    assert use(before()) != use(after())


@pytest.mark.parametrize("name", ["names", "lambdas", "partials", "closures", "callable objects"])
def test_decorated_functions_have_different_fingerprints(name: str) -> None:
    before, after = FUNCTIONS[name]
    assert validated(before()) == validated(before())
    assert validated(before()) != validated(after())


def test_a_validator_that_is_added_moved_or_of_another_mode_makes_another_fingerprint() -> None:
    def made(**options: Any) -> bytes:
        class Out(BaseModel):
            a: int = 1
            b: int = 1

            if options:
                check: Any = decorated(*options.pop("on"), **options)(triple)

        return fingerprint(Out)

    variants = [
        made(),
        made(on=["a"]),
        made(on=["b"]),
        made(on=["a", "b"]),
        made(on=["a"], mode="before"),
    ]
    assert len(set(variants)) == len(variants)


def test_a_validator_of_the_whole_model_counts() -> None:
    def made(mode: str | None) -> bytes:
        class Part(BaseModel):
            a: int = 1

            if mode == "after":

                @decorated_model(mode="after")  # type: ignore[untyped-decorator]
                def check_after(self) -> Any:
                    return self

            if mode == "before":

                @decorated_model(mode="before")  # type: ignore[untyped-decorator]
                @classmethod
                def check_before(cls, data: Any) -> Any:
                    return data

            if mode == "post_init":

                def model_post_init(self, context: Any) -> None:
                    self.a += 1

            if mode == "init":

                def __init__(self, **data: Any) -> None:
                    super().__init__(**data)

        class Out(BaseModel):
            part: Part
            parts: list[Part]

        return fingerprint(Out)

    made_ones = {made(mode) for mode in (None, "after", "before", "post_init", "init")}
    assert len(made_ones) == 5


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PrivateAttr(default=0), PrivateAttr(default=1)),
        (PrivateAttr(default_factory=list), PrivateAttr(default_factory=dict)),
    ],
)
def test_the_default_of_a_private_attribute_counts(before: Any, after: Any) -> None:
    def made(private: Any) -> bytes:
        return fingerprint(type("Out", (BaseModel,), {"__module__": __name__, "_x": private}))

    assert made(before) != made(after)


def test_the_configuration_counts_where_it_changes_what_is_read() -> None:
    def made(**config: Any) -> bytes:
        return fingerprint(made_model("Out", __config__=config, a=(str, "")))

    assert made() == made(title="Other", frozen=True, json_schema_extra=lambda schema: None)
    assert len({made(), made(str_to_lower=True), made(extra="allow"), made(strict=True)}) == 4


def test_changes_to_dumps_and_documentation_do_not_count() -> None:
    plain = out(float, 1.0)
    assert plain == out(float, Field(default=1.0, description="words", examples=[1.0]))
    assert plain == out(Annotated[float, "words"], 1.0)
    assert plain == out(Annotated[float, PlainSerializer(lambda value: round(value, 2))], 1.0)


def test_the_order_of_fields_and_members_does_not_count() -> None:
    def made(*names: str) -> bytes:
        return out(part(**dict.fromkeys(names, (int, 1))))

    assert made("a", "b") == made("b", "a")
    assert out(Enum("Kind", {"a": 1, "b": 2})) == out(Enum("Kind", {"b": 2, "a": 1}))


def test_an_enum_without_a_name_for_its_value_counts_by_how_it_finds_one() -> None:
    def made(*, finds: bool) -> bytes:
        class Kind(Enum):
            a = 1

            if finds:

                @classmethod
                def _missing_(cls, value: object) -> Any:
                    return cls.a

        return out(Kind)

    assert made(finds=True) != made(finds=False)


Tree = TypeAliasType("Tree", "dict[str, Tree] | list[Tree] | int")


class Node(BaseModel):
    tree: Tree
    children: list[Node] = []
    deferred: Later | None = None


class Later(BaseModel):
    node: Node | None = None


def test_recursive_types_have_a_fingerprint() -> None:
    assert fingerprint(Node) != fingerprint(Later)
    assert out(Tree) != out(TypeAliasType("Tree", "dict[str, Tree] | int"))


def test_constraints_of_text_count_however_they_are_written() -> None:
    short = Annotated[str, StringConstraints(max_length=3)]
    assert out(short) != out(Annotated[str, StringConstraints(max_length=4)])


@pytest.mark.parametrize(
    "function",
    [
        AtMost(threading.Lock()),  # type: ignore[arg-type]
        at_most(object()),  # type: ignore[arg-type]
        functools.partial(next, (number for number in range(3))),
    ],
    ids=["lock", "object", "generator"],
)
def test_a_function_that_can_not_be_identified_is_refused(function: Any) -> None:
    for field in (AfterValidator(function), Field(default_factory=function)):
        with pytest.raises(
            ConfigurationError, match=r"Out\.value has a function that can't be identified"
        ):
            out(Annotated[int, field])


def test_a_function_that_carries_a_whole_program_is_refused() -> None:
    shared: list[Any] = [object]
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(ConfigurationError, match="more than 10,000 values"):
        out(Annotated[int, AfterValidator(at_most(shared))])  # type: ignore[arg-type]


def test_a_schema_that_is_not_complete_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Out is not complete .*Nowhere"):
        fingerprint(type("Out", (BaseModel,), {"__annotations__": {"a": "Nowhere"}}))


def test_a_default_that_is_never_stored_goes_by_its_class() -> None:
    assert out(Any, object()) == out(Any, object())


@pydantic_dataclass
class Base:
    a: int = 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *(
            (
                dataclasses.make_dataclass("Derived", [("b", int, 1)], bases=(Base,)),
                dataclasses.make_dataclass("Derived", [("b", part, 1)], bases=(Base,)),
            )
            for part in (float, int | None)
        ),
        *(
            (
                dataclasses.make_dataclass("Data", [("b", int, field)]),
                dataclasses.make_dataclass("Data", [("b", int, other)]),
            )
            for field, other in [
                (dataclasses.field(default=1), dataclasses.field(default=2)),
                (dataclasses.field(default=1), dataclasses.field(default=1, init=False)),
                (Field(gt=1), Field(gt=2)),
                (
                    dataclasses.field(default_factory=lambda: 1),
                    dataclasses.field(default_factory=lambda: 2),
                ),
            ]
        ),
        (Annotated[int, Strict()], Annotated[int, Strict(False)]),
        (Annotated[int, Strict()], int),
        (SkipValidation[int], int),
        (Annotated[float, AllowInfNan(False)], float),
    ],
)
def test_different_declarations_of_a_part_have_different_fingerprints(
    before: Any, after: Any
) -> None:
    assert out(before) == out(before)
    assert out(before) != out(after)


class OldOutput(v1.BaseModel):
    charges: float


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (OldOutput, "its output_schema OldOutput is a pydantic.v1 model; derive it from"),
        (Later(), "its output_schema is an instance of Later; use the class itself"),
        (dict, "its output_schema is <class 'dict'>, not a pydantic model"),
        (None, "its output_schema is None, not a pydantic model"),
    ],
)
def test_an_error_about_an_invalid_schema_says_what_it_is(schema: Any, problem: str) -> None:
    decorator = RedisCachingDecorator(url="redis://localhost:1")
    with pytest.raises(ConfigurationError, match=problem):
        decorator.set_model(FunctionModel(output_schema=schema))
