"""Errors and warnings of `set_model` about types and defaults of the input."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field

from model_cache import ConfigurationError, RedisCachingDecorator, register_canonical
from tests.keys.forms import Anything
from tests.models import FunctionModel


class Picture:
    """Like PIL's: plugins derive from it."""


def derived() -> type:
    return type("Plugin", (Picture,), {})


def framed(cls: Any) -> type[BaseModel]:
    members = {
        "__annotations__": {"picture": cls, "age": int},
        "model_config": Anything.model_config,
    }
    return type("Framed", (BaseModel,), {"__module__": __name__, **members})


def set_model(schema: type[BaseModel], **options: Any) -> None:
    RedisCachingDecorator(**options).set_model(FunctionModel(schema))


@pytest.mark.usefixtures("registrations")
def test_a_type_without_a_form_is_refused_whatever_is_imported() -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'picture' is of type .*Picture.*register_c"):
            set_model(framed(list[Picture]))
        plugin = derived()  # is imported
    set_model(framed(list[Picture]), ignored_fields=["picture"])
    register_canonical(plugin, repr)
    set_model(framed(Picture))


def test_a_type_whose_subclasses_have_a_form_is_accepted() -> None:
    class Shape:
        pass

    with pytest.raises(ConfigurationError, match="Shape"):
        set_model(framed(Shape))

    @dataclass
    class Circle(Shape):
        radius: float

    set_model(framed(Shape))
    set_model(framed(dt.tzinfo))
    set_model(framed(np.memmap))


class Identified(BaseModel):
    identity: uuid.UUID = Field(default_factory=uuid.uuid4)
    many: list[int] = Field(default_factory=list)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class Timed:
    when: float = field(default_factory=time.time)


class Requested(BaseModel):
    at: dt.datetime = Field(default_factory=partial(dt.datetime.now, dt.UTC))
    seen: dt.datetime = Field(default_factory=utc_now)
    text: str = Field(default_factory=lambda: str(uuid.uuid4()))
    part: Identified = Identified()
    timed: list[Timed] = []


def test_set_model_warns_of_defaults_that_prevent_hits() -> None:
    with pytest.warns(UserWarning, match="never hit") as caught:
        set_model(Requested)
    paths = ["at", "seen", "text", "part.identity", "timed.when"]
    assert [str(warning.message).split("'")[1] for warning in caught] == paths
    assert all(warning.filename == __file__ for warning in caught)
    assert "uuid4" in str(caught[3].message)
    with pytest.warns(UserWarning, match="'seen'") as caught:
        set_model(Requested, ignored_fields=["at", "text", "part.identity", "timed"])
    assert len(caught) == 1
