"""Rounding respects classes that validate, change or remember their input."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator, model_validator

from model_cache import ConfigurationError
from model_cache.keys.rounding import Rounder
from tests.catalogue import hidden_state, plain_fields
from tests.models import Charges, FunctionModel
from tests.properties.cases import NOWHERE, decorated
from tests.properties.inputs import Handle, LabelledCoordinates, Positive
from tests.properties.pictures import objects, picture
from tests.signals import SoftTimeLimitError, soft_time_limit

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict


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
def test_an_input_that_is_not_valid_when_rounded_is_not_rounded(data: BaseModel) -> None:
    assert Rounder(1)(data) is data


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
        plain_fields.Anything(value=out_of_order(NormalizingPoint)),
        plain_fields.Anything(value=out_of_order(NormalizingCheckedPoint)),
        plain_fields.Anything(value=out_of_order(NormalizingPoint, items=(2.04, 1.04))),
        plain_fields.Anything(value=out_of_order(NormalizingCheckedPoint, items=(2.04, 1.04))),
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
    seen: Any = Rounder(1)(plain_fields.Anything(value=tagged))
    assert seen.value.tag == "by hand"


def test_rounding_keeps_what_was_set_beside_the_fields_of_a_named_tuple() -> None:
    labelled = LabelledCoordinates(1.26)
    labelled.label = "by hand"
    seen: Any = Rounder(1)(plain_fields.Anything(value=labelled))
    assert seen.value.label == "by hand"


def test_rounding_keeps_what_was_set_in_a_slot_of_a_model() -> None:
    seen: Any = Rounder(1)(hidden_state.with_slot(1.26, "by hand"))
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


class Slow:
    def __deepcopy__(self, _: object) -> Slow:
        signal.raise_signal(signal.SIGUSR1)
        return self


class SlowlyValidated(BaseModel):
    number: float
    beside: Any = None

    @field_validator("number")
    @classmethod
    def check(cls, number: float) -> float:
        if number == 1.3:
            signal.raise_signal(signal.SIGUSR1)
        return number


@pytest.mark.no_cover  # a signal that raises inside coverage leaves its lock held
@pytest.mark.parametrize("number", [1.26, 1.24])
def test_an_interruption_gets_through(number: float) -> None:
    with soft_time_limit(), pytest.raises(SoftTimeLimitError):
        Rounder(1)(SlowlyValidated(number=number, beside=Slow() if number == 1.24 else None))
