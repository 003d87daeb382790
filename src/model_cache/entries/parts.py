"""List the parts of a value with their paths, for explanations.

Keys and comparisons do not use this; they use canonical bytes.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

from pydantic import BaseModel

from model_cache import pydantic_attributes


def parts(value: Any) -> dict[str, Any]:
    """Return the direct parts of a value by relative path.

    Paths contain no data of the prediction: the values of a dict are named by position.
    """
    if isinstance(value, BaseModel):
        inside = value.__dict__ | pydantic_attributes.extra(value)
        inside |= pydantic_attributes.private(value)
        return {f".{name}": part for name, part in inside.items()}
    if isinstance(value, dict):
        return {f".values()[{place}]": part for place, part in enumerate(value.values())}
    if isinstance(value, (list, tuple, deque)):
        return {f"[{place}]": part for place, part in enumerate(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        inside = {name: getattr(value, name) for name in names if hasattr(value, name)}
        inside |= getattr(value, "__dict__", {})
        return {f".{name}": part for name, part in inside.items()}
    return {}
