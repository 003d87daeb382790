"""The standard library's numbers and moments."""

import datetime as dt
import uuid
import zoneinfo
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, Field
from pydantic_core import TzInfo

from tests.catalogue.case import Cases

CASES = Cases()
case, built = CASES.add, CASES.build


moments = st.datetimes().map(lambda moment: moment.replace(fold=0))
clocks = st.times().map(lambda clock: clock.replace(fold=0))
berlin, new_york = zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("America/New_York")
# What comes back is in pydantic's zones, which have other names than Python's, but for UTC.
fixed = st.sampled_from([None, dt.UTC, TzInfo(3600), TzInfo(-19800)])
pythons = st.sampled_from([dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(0), "x")])
zones = fixed | pythons | st.sampled_from([berlin, new_york])
folds = st.sampled_from([0, 1])
ambiguous = st.just(dt.datetime(2024, 10, 27, 2, 30))


class Decimals(BaseModel):
    value: Decimal = Field(allow_inf_nan=True)
    other: Decimal = Field(Decimal(0), allow_inf_nan=True)


decimals = st.decimals(allow_nan=False) | st.sampled_from(
    ["0", "-0", "0E+3", "1", "1.0", "1.00", "1E+2", "100", "NaN", "-NaN", "NaN1", "-Infinity"]
).map(Decimal)
built(Decimals, value=decimals, other=decimals)


class SignalingDecimals(BaseModel):
    value: Any


case(
    SignalingDecimals,
    st.sampled_from(["sNaN", "sNaN1", "-sNaN", "NaN", "1"]).map(
        lambda text: SignalingDecimals(value=Decimal(text))
    ),
    kept=False,
)


class Moments(BaseModel):
    day: dt.date
    when: dt.datetime
    clock: dt.time
    lasting: dt.timedelta


built(
    Moments,
    day=st.dates(),
    when=st.builds(lambda moment, zone: moment.replace(tzinfo=zone), moments, fixed),
    clock=clocks,
    lasting=st.timedeltas(dt.timedelta(days=-1000), dt.timedelta(days=1000)),
)


class ZonedMoments(BaseModel):
    when: dt.datetime
    clock: dt.time


case(
    ZonedMoments,
    st.builds(
        lambda when, zone, fold, clock: ZonedMoments(
            when=when.replace(tzinfo=zone, fold=fold), clock=clock.replace(fold=fold)
        ),
        ambiguous | st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2030, 1, 1)),
        zones,
        folds,
        st.times(timezones=fixed),
    ),
    kept=False,  # a dump knows the offset, neither the zone's name nor the fold
)


class Identified(BaseModel):
    identity: uuid.UUID
    identities: list[uuid.UUID] = []


built(Identified, identity=st.uuids(), identities=st.lists(st.uuids()))
