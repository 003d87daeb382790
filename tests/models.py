"""Models for the tests: small, deterministic, and with a list of their calls."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from typing import Any

from ml_base.ml_model import MLModel
from pydantic import BaseModel, ConfigDict


class Sex(enum.StrEnum):
    male = "male"
    female = "female"


class Region(enum.StrEnum):
    southwest = "southwest"
    southeast = "southeast"
    northwest = "northwest"
    northeast = "northeast"


class Person(BaseModel):
    age: int
    sex: Sex
    bmi: float
    children: int
    smoker: bool
    region: Region


class Charges(BaseModel):
    charges: float


def person(**changes: Any) -> Person:
    fields: dict[str, Any] = {
        "age": 42,
        "sex": Sex.female,
        "bmi": 24.0,
        "children": 2,
        "smoker": False,
        "region": Region.northwest,
    }
    return Person(**{**fields, **changes})


def charge(data: Person) -> Charges:
    """Tells apart any two persons, swapped values included."""
    return Charges(
        charges=data.age * 1e6
        + data.bmi * 1e3
        + data.children * 10
        + data.smoker * 5
        + (data.sex is Sex.male) * 2
        + list(Region).index(data.region) / 10
    )


class FunctionModel(MLModel):  # type: ignore[misc]  # ml-base is untyped
    """Any function as a model; counts its calls."""

    def __init__(
        self,
        input_schema: type[BaseModel] = Person,
        output_schema: type[BaseModel] = Charges,
        function: Callable[[Any], Any] = charge,
        *,
        qualified_name: str = "test_model",
        version: str = "1.0.0",
    ) -> None:
        self._input_schema = input_schema
        self._output_schema = output_schema
        self._function = function
        self._qualified_name = qualified_name
        self.current_version = version
        self.calls: list[Any] = []

    @property
    def display_name(self) -> str:
        return "Test Model"

    @property
    def qualified_name(self) -> str:
        return self._qualified_name

    @property
    def description(self) -> str:
        return "A model for tests."

    @property
    def version(self) -> str:
        return self.current_version

    @property
    def input_schema(self) -> type[BaseModel]:
        return self._input_schema

    @property
    def output_schema(self) -> type[BaseModel]:
        return self._output_schema

    def predict(self, data: Any) -> Any:
        if not isinstance(data, BaseModel):
            raise TypeError(f"{type(data).__name__} is no input")
        self.calls.append(data)
        return self._function(data)


class Anything(BaseModel):
    """An input that holds any value at all."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any = None


class Echo(BaseModel):
    """An output that says which input it was made for."""

    text: str


class Gate:
    """Holds a model in the middle of a prediction until the test says go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def __call__(self, data: Any) -> Charges:
        self.entered.set()
        assert self.go.wait(10)
        return charge(data)
