"""The cases of the catalogue."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel


@dataclass(frozen=True)
class Case:
    """A schema with its instances.

    Attributes:
        name: for the test's id.
        schema: the pydantic model.
        instances: draws instances of it, or of its subclasses.
        kept: whether each of them, as a prediction, becomes an entry; a comment says why not.
    """

    name: str
    schema: type[BaseModel]
    instances: SearchStrategy[BaseModel]
    kept: bool = True

    def __str__(self) -> str:
        return self.name


class Cases(list[Case]):
    """The cases of a module."""

    def add(
        self,
        schema: type[BaseModel],
        instances: SearchStrategy[Any],
        kept: bool = True,
        name: str = "",
    ) -> None:
        self.append(Case(name or schema.__name__, schema, instances, kept))

    def build(
        self,
        schema: type[BaseModel],
        *,
        kept: bool = True,
        name: str = "",
        **fields: SearchStrategy[Any],
    ) -> None:
        """Add a schema whose instances are built from strategies for its fields."""
        self.add(schema, st.builds(schema, **fields), kept, name)
