"""A catalogue of schemas, each with a strategy for its instances: anything users might model.

Property tests walk it. A case says what is expected of it as an output schema, too: whether
each of its instances becomes an entry.

Annotations are evaluated here (no `from __future__ import annotations`), since those of a
dataclass would be strings otherwise, and strings are compiled differently.
"""

from tests.catalogue import (
    choices,
    hidden_state,
    moments,
    numpy_arrays,
    plain_fields,
    standard_types,
    structures,
    subclasses,
)
from tests.catalogue.case import Case

CASES: list[Case] = [
    *plain_fields.CASES,
    *choices.CASES,
    *structures.CASES,
    *hidden_state.CASES,
    *moments.CASES,
    *standard_types.CASES,
    *subclasses.CASES,
    *numpy_arrays.CASES,
]

__all__ = ["CASES", "Case"]
