"""Generate training rows, to use without the published table, and random requests.

The rows follow the published table's statistics, so a model trained on them behaves like one
trained on the table. The result depends only on the arguments and the version of numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    RegionEnum,
    SexEnum,
)
from examples.insurance_charges.table import InsuranceRow

_Floats = NDArray[np.float64]

_SEXES = tuple(SexEnum)
_REGIONS = tuple(RegionEnum)

_AGES = np.arange(18, 65)
# The table has more people aged 18 and 19 than of any other age: three times as many give its mean
# age, 39.2, where evenly spread ages would give 41.
_AGE_WEIGHTS = np.where(_AGES < 20, 3.0, 1.0)
_CHILDREN_WEIGHTS = np.array([0.429, 0.242, 0.179, 0.117, 0.019, 0.013])
_SMOKER_SHARE = 0.205
_BMI_MEANS = {
    RegionEnum.southwest: 30.6,
    RegionEnum.southeast: 33.4,
    RegionEnum.northwest: 29.2,
    RegionEnum.northeast: 29.2,
}
_BMI_DEVIATION = 5.9  # within a region; 6.1 over all four
_BMI_RANGE = (16.0, 53.0)
_LOWEST_CHARGES = 1100.0


def generate_rows(n: int, seed: int) -> list[InsuranceRow]:
    """Return n rows that follow the published table's statistics.

    Args:
        n: the number of rows, 0 or more.
        seed: 0 or more; the same seed gives the same rows.
    """
    rng = np.random.default_rng(seed)
    age = rng.choice(_AGES, n, p=_AGE_WEIGHTS / _AGE_WEIGHTS.sum())
    sex = rng.integers(0, len(_SEXES), n)
    region = rng.integers(0, len(_REGIONS), n)
    bmi_mean = np.array([_BMI_MEANS[name] for name in _REGIONS])[region]
    bmi = np.clip(rng.normal(bmi_mean, _BMI_DEVIATION), *_BMI_RANGE).round(3)
    children = rng.choice(6, n, p=_CHILDREN_WEIGHTS / _CHILDREN_WEIGHTS.sum())
    smoker = rng.random(n) < _SMOKER_SHARE

    male = sex == _SEXES.index(SexEnum.male)
    not_smoking = 3526 - 87 * age + 4.44 * age**2 + 770 * children - 530 * male
    smoking = 55 + 232 * age + 0.44 * age**2 + 466 * bmi + 15291 * (bmi > 30)
    smoking += 217 * children - 445 * male
    charges = np.where(
        smoker,
        smoking + _residuals(rng, n, usual=630, share=0.07, large=11_600, spread=5_300),
        not_smoking + _residuals(rng, n, usual=345, share=0.093, large=13_400, spread=4_700),
    )
    charges = np.maximum(charges, _LOWEST_CHARGES).round(2)

    columns = (age, sex, bmi, children, smoker, region, charges)
    return [
        InsuranceRow(a, _SEXES[s], b, c, smokes, _REGIONS[r], dollars)
        for a, s, b, c, smokes, r, dollars in zip(*(c.tolist() for c in columns), strict=True)
    ]


def random_inputs(n: int, seed: int) -> list[InsuranceChargesModelInput]:
    """Return n requests spread evenly over everything that the input schema allows.

    Unlike the training rows, they follow no statistics: half of the people smoke. The body mass
    index has three decimal places.

    Args:
        n: the number of requests, 0 or more.
        seed: 0 or more; the same seed gives the same requests.
    """
    rng = np.random.default_rng(seed)
    columns = (
        rng.integers(18, 65, n, endpoint=True),
        rng.integers(0, len(_SEXES), n),
        rng.integers(15_000, 50_000, n, endpoint=True) / 1000.0,
        rng.integers(0, 5, n, endpoint=True),
        rng.integers(0, 2, n),
        rng.integers(0, len(_REGIONS), n),
    )
    return [
        InsuranceChargesModelInput(
            age=age,
            sex=_SEXES[sex],
            bmi=bmi,
            children=children,
            smoker=bool(smoker),
            region=_REGIONS[region],
        )
        for age, sex, bmi, children, smoker, region in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def _residuals(
    rng: np.random.Generator, n: int, *, usual: float, share: float, large: float, spread: float
) -> _Floats:
    """Return n dollar amounts with mean 0: most slightly negative, some of them large bills.

    The published table has this shape, which limits a model's R² to about 0.87.
    """
    is_large = rng.random(n) < share
    below = -share * large / (1 - share)
    return np.where(is_large, rng.normal(large, spread, n), rng.normal(below, usual, n))
