"""Inputs and models that always fail."""

from __future__ import annotations

from typing import Any

from tests.models import Charges, Person, person


class Loose(Person):
    """With a field that may hold what has no canonical form."""

    more: Any = None


NO_KEY = Loose(**person().model_dump(), more=iter(""))


def failing(data: Any) -> Charges:
    raise RuntimeError("no weights")
