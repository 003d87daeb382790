"""Time zones of other libraries have a canonical form once registered."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from dateutil import tz  # type: ignore[import-untyped]
from pydantic_core import TzInfo

from model_cache import ConfigurationError, NotCacheableError, register_canonical
from tests.keys.forms import NOON, Anything, form


class Zone(dt.tzinfo):
    """Like pytz's: an instance for each offset of a zone, and a class for each zone."""

    def __init__(self, name: str, offset: int, short: str) -> None:
        self.zone = name
        self._offset = dt.timedelta(hours=offset)
        self._short = short

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        return self._offset

    def dst(self, _: dt.datetime | None) -> None:
        return None

    def tzname(self, _: dt.datetime | None) -> str:
        return self._short


class Berlin(Zone):
    pass


@pytest.mark.usefixtures("registrations")
def test_a_registered_zone_gives_times_a_key() -> None:
    winter, summer = Berlin("Europe/Berlin", 1, "CET"), Berlin("Europe/Berlin", 2, "CEST")
    with pytest.raises(NotCacheableError, match=r"value: .*Berlin has no canonical form"):
        form(NOON.replace(tzinfo=winter))
    register_canonical(Zone, lambda zone: zone.zone)
    values = [
        *(NOON.replace(tzinfo=zone) for zone in (winter, summer, Zone("Europe/Berlin", 1, "CET"))),
        dt.time(12, tzinfo=winter),
        winter,
        NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    ]
    assert len(set(map(form, values))) == len(values)
    again = NOON.replace(tzinfo=Berlin("Europe/Berlin", 1, "CET"))
    assert form(again) == form(values[0])


@pytest.mark.usefixtures("registrations")
def test_zones_of_dateutil_work_once_they_are_registered() -> None:
    berlin, paris = tz.gettz("Europe/Berlin"), tz.gettz("Europe/Paris")
    register_canonical(type(berlin), lambda zone: zone._filename)
    register_canonical(tz.tzoffset, lambda zone: zone.utcoffset(None))
    zones = [berlin, paris, tz.tzoffset(None, 3600), tz.tzoffset("mine", 3600)]
    forms = [form(NOON.replace(tzinfo=zone)) for zone in zones]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    "cls", [dt.timezone, TzInfo, zoneinfo.ZoneInfo, dt.datetime, str, Anything]
)
def test_a_type_that_has_a_form_is_not_given_another(cls: type) -> None:
    with pytest.raises(ConfigurationError, match="already has a canonical form"):
        register_canonical(cls, str)
