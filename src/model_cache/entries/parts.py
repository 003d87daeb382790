"""What is inside a value, and under which path: for what looks into predictions.

It is for explanations, and for what is checked afterwards: keys and comparisons are made from
canonical bytes.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

from pydantic import BaseModel


def parts(value: Any) -> dict[str, Any]:
    """Return what is directly inside a value, by a path that begins there.

    The path holds no data of the prediction: what is in a dict goes by its position.
    """
    if isinstance(value, BaseModel):
        inside = value.__dict__ | (value.__pydantic_extra__ or {})
        inside |= value.__pydantic_private__ or {}
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
