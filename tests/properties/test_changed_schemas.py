"""A change to any part of the output schema gives new keys."""

from __future__ import annotations

import collections
import dataclasses
import sys
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, create_model
from typing_extensions import TypeAliasType

from model_cache.binding.fingerprint import fingerprint
from tests.catalogue import structures

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict

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
        "generic model": structures.Box[model],
        "generic dataclass": structures.Carton[model],
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
