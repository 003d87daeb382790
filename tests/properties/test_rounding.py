"""Reduced precision: the model and the key use the rounded input, the caller's is unchanged."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import math
import subprocess
import sys
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from model_cache.keys.rounding import Rounder
from tests.catalogue import Case, numpy_arrays, structures, values
from tests.models import Charges, FunctionModel
from tests.properties.cases import NOWHERE, decorated, each_case
from tests.properties.inputs import Coordinates, Positive
from tests.properties.pictures import objects, picture


@each_case
def test_the_model_sees_what_the_key_sees_and_the_caller_keeps_its_own(case: Case) -> None:
    model = FunctionModel(case.schema, Charges, lambda data: Charges(charges=1))
    rounding = decorated(model, url=NOWHERE, reduced_precision=True, number_of_places=1)
    plain = decorated(model, url=NOWHERE)

    @given(case.instances)
    def predict(data: BaseModel) -> None:
        before, inside = picture(data), list(map(id, objects(data)))
        expected = rounding.cache_key(data)
        rounding.predict(data)
        assert picture(data) == before
        assert list(map(id, objects(data))) == inside
        seen = model.calls.pop()
        assert plain.cache_key(seen) == expected
        assert rounding.cache_key(seen) == expected, "rounded twice is rounded otherwise"

    predict()


class Measured(BaseModel):
    number: float
    exact: Decimal = Decimal("0.0000")
    many: list[float] = []
    maybe: float | None = None


near_numbers = (
    st.floats(-3, 3) | st.integers(-3000, 3000).map(lambda number: number / 1000) | values.floats
)
near_decimals = st.integers(-30000, 30000).map(lambda number: Decimal(number).scaleb(-4))
measured = st.builds(
    Measured,
    number=near_numbers,
    exact=near_decimals,
    many=st.lists(near_numbers, max_size=2),
    maybe=st.none() | near_numbers,
)


def correctly_rounded(value: Any, places: int) -> Any:
    """Return the nearest multiple, half to even, by exact arithmetic."""
    if isinstance(value, list):
        return [correctly_rounded(item, places) for item in value]
    if value is None or not math.isfinite(value):
        return repr(value)
    with decimal.localcontext(prec=1000):
        rounded = Decimal(value).quantize(Decimal(1).scaleb(-places), decimal.ROUND_HALF_EVEN)
    return rounded if rounded else abs(rounded)


@given(measured, measured, st.integers(0, 3))
def test_inputs_share_a_key_only_if_they_round_to_the_same(
    one: Measured, other: Measured, places: int
) -> None:
    model = FunctionModel(Measured, Charges)
    decorator = decorated(model, url=NOWHERE, reduced_precision=True, number_of_places=places)
    rounded = [
        [correctly_rounded(value, places) for value in vars(data).values()] for data in (one, other)
    ]
    same_key = decorator.cache_key(one) == decorator.cache_key(other)
    assert same_key == (rounded[0] == rounded[1])


class HasPoints(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any
    beside: float = 1.26


@dataclasses.dataclass
class Limited:
    x: float
    limit: ClassVar[float] = 1.26
    plain: ClassVar[int] = 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1.26], [1.3]),
        ((1.26, None, True), (1.3, None, True)),
        ({"a": {"b": [1.26]}}, {"a": {"b": [1.3]}}),
        ({1.26}, {1.3}),
        (Decimal("1.26"), Decimal("1.3")),
        (Positive(share=1.26), Positive(share=1.3)),
        (structures.Point(1, 1.26), structures.Point(1, 1.3)),
        (structures.CheckedPoint(1, 1.26), structures.CheckedPoint(1, 1.3)),
        (structures.SlotsPoint(1, 1.26), structures.SlotsPoint(1, 1.3)),
        (structures.CheckedSlotsPoint(1, 1.26), structures.CheckedSlotsPoint(1, 1.3)),
        (collections.deque([1.26]), collections.deque([1.3])),
        (Coordinates(1.26), Coordinates(1.3)),
        (Limited(1.26), Limited(1.3)),
    ],
    ids=repr,
)
def test_numbers_are_rounded_wherever_they_are(before: Any, after: Any) -> None:
    rounded = Rounder(1)(HasPoints(value=before))
    assert picture(rounded) == picture(HasPoints(value=after, beside=1.3))


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "before", "after"),
    [
        ("f8", 1.26, 1.3),
        ("f4", 1.26, 1.3),
        ("f2", 1.26, 1.3),
        ("f2", 7000.0, 7000.0),  # ten times as much is infinite
        ("f4", 1e38, 1e38),
        ("f8", 1e308, 1e308),
        ("f8", math.inf, math.inf),
    ],
)
def test_arrays_are_rounded_and_never_become_infinite(
    dtype: str, before: float, after: float, shape: tuple[int, ...]
) -> None:
    data = numpy_arrays.Arrays(
        array=np.full(shape, before, dtype), scalar=np.dtype(dtype).type(before)
    )
    with np.errstate(all="ignore"):
        rounded = Rounder(1)(data)
    expected = np.full(shape, after, dtype)
    assert picture(vars(rounded)["array"]) == picture(expected)
    assert picture(vars(rounded)["scalar"]) == picture(np.dtype(dtype).type(after))


def test_an_array_of_another_class_stays_one() -> None:
    masked = np.ma.masked_array([1.26, 9.99], [False, True])
    seen: Any = Rounder(1)(numpy_arrays.Arrays(array=masked, scalar=1.26))
    assert type(seen.array) is type(masked)
    assert seen.array.mask.tolist() == [False, True]


def test_the_process_wide_decimal_context_does_not_change_the_rounding() -> None:
    program = """
import decimal
from tests.properties.test_rounding import Decimal, Measured, Rounder
decimal.DefaultContext.rounding = decimal.ROUND_UP
decimal.DefaultContext.Emax = 1
decimal.setcontext(decimal.Context(prec=2))
print(Rounder(1)(Measured(number=0, exact=Decimal("123.41"))).exact)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert finished.stdout == "123.4\n"


class Ward(BaseModel):
    inside: Measured
    beds: int


def test_a_named_field_inside_another_is_rounded_and_nothing_else() -> None:
    data = Ward(inside=Measured(number=1.26, exact=Decimal("1.26")), beds=126)
    seen: Any = Rounder({"inside": {"number": 1}, "beds": -1})(data)
    assert seen == Ward(inside=Measured(number=1.3, exact=Decimal("1.26")), beds=130)


@pytest.mark.parametrize("rules", [1, {"number": 1, "exact": 1}])
def test_an_input_that_is_round_already_is_not_copied(rules: Any) -> None:
    data = Measured(number=1.5, exact=Decimal("1.5"), many=[0.5, 2.0])
    assert Rounder(rules)(data) is data


def test_a_rounded_numpy_number_stays_a_number() -> None:
    data = numpy_arrays.Arrays(array=np.array([1.26]), scalar=np.float32(1.26))
    seen: Any = Rounder(1)(data)
    assert type(seen.scalar) is np.float32
    assert seen.scalar == np.float32(1.3)
    assert type(seen.array) is np.ndarray
