"""The error for an input without a key says where and why."""

from __future__ import annotations

import collections
import enum
import signal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from model_cache import NotCacheableError, register_canonical
from model_cache.keys.canonical import INPUTS
from tests.keys.forms import form
from tests.signals import SoftTimeLimitError, soft_time_limit

# A signal that raises inside coverage leaves its lock held.
pytestmark = pytest.mark.no_cover


class Part(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    value: Any = None
    items: list[Any] = []
    named: dict[str, Any] = {}
    _private: Any = PrivateAttr(None)


def part(**private: Any) -> Part:
    made = Part()
    made._private = private["value"]
    return made


class Raising:
    pass


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (Part(value=object()), "value"),
        (Part(items=[1, Part(items=[object()])]), "items[1].items[0]"),
        (Part(named={"known": object()}), "named['known']"),
        (Part(named={"a b@c.example": {1: object()}}), "named[...][...]"),
        (Part.model_validate({"more": object()}), "more"),
        (Part.model_validate({"more\n": object()}), "..."),
        (part(value=object()), "_private"),
        (part(value=[object()]), "_private[0]"),
        (Part(value=collections.deque([object()])), "value[1][0]"),
        (Part(value={frozenset([object()])}), "value"),
    ],
)
def test_an_input_without_a_key_says_where_and_why(data: BaseModel, path: str) -> None:
    with pytest.raises(NotCacheableError, match=r"builtins\.object has no canonical") as caught:
        INPUTS.encode(data)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.usefixtures("registrations")
def test_an_error_while_reading_a_value_says_where_it_is() -> None:
    register_canonical(Raising, lambda value: value.missing)
    with pytest.raises(NotCacheableError) as caught:
        INPUTS.encode(Part(items=[Part.model_validate({"more": Raising()})]))
    assert str(caught.value) == "items[0].more: reading it raised AttributeError"
    assert isinstance(caught.value.__cause__, AttributeError)


@pytest.mark.usefixtures("registrations")
@pytest.mark.parametrize(
    "data",
    [Part(value=Raising()), Part(items=[{"a": (Raising(),)}]), part(value=Raising())],
    ids=["field", "containers", "private attribute"],
)
def test_an_interruption_gets_through_whatever_is_being_read(data: BaseModel) -> None:
    def interrupted(_: object) -> None:
        signal.raise_signal(signal.SIGUSR1)

    register_canonical(Raising, interrupted)
    with soft_time_limit(), pytest.raises(SoftTimeLimitError):
        INPUTS.encode(data)


@pytest.mark.usefixtures("registrations")
def test_an_enum_whose_members_hold_what_has_no_form_can_be_given_one() -> None:
    class Operation(enum.Enum):
        add = "add"

    Operation.add.run = len  # type: ignore[attr-defined]
    with pytest.raises(NotCacheableError, match=r"^value\.run: "):
        form(Operation.add)
    register_canonical(Operation, lambda member: member.name)
    assert form(Operation.add)
