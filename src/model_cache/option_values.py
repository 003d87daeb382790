"""Check and convert the value of one option: a flag, a number, a time, a choice, a text.

Values often come from templates and environment variables, so numbers and flags are taken as
text, too. Which options exist and how they depend on each other is the business of `config`.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.redaction import masked_url, revealed

_TEN_YEARS = 10 * 365 * 86_400
_FLAGS = {"true": True, "false": False}
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_DECIMAL = re.compile(r"\s*[+-]?([0-9]{1,19}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\s*")
_LONGEST_SHOWN = 200


def wrong(option: str, value: object, allowed: str) -> ConfigurationError:
    """Return the error for a value that is not allowed."""
    text = masked_url(value) if isinstance(value, str) and "://" in value else value
    return ConfigurationError(option, f"expected {allowed}, got {text!r:.{_LONGEST_SHOWN}}")


def switch(value: object) -> object:
    """Return a flag that is written as text, "true" or "False", as a bool; else the value."""
    return _FLAGS.get(value.strip().lower(), value) if isinstance(value, str) else value


def flag(option: str, value: object) -> bool:
    """Return a flag."""
    on = switch(value)
    if not isinstance(on, bool):
        raise wrong(option, value, "true or false")
    return on


def whole(option: str, value: object, least: int, most: int) -> int:
    """Return a whole number from `least` to `most`."""
    number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise wrong(option, value, f"a whole number from {least:,} to {most:,}")
    return number


def seconds(option: str, value: object, least: float, most: float) -> float:
    """Return a time in seconds, from `least` to `most`."""
    number = value
    if isinstance(value, dt.timedelta):
        number = value.total_seconds()
    elif isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = float(value)
    numeric = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not numeric or not least <= number <= most:  # type: ignore[operator]  # NaN fails, too
        raise wrong(option, value, f"a time in seconds from {least:g} to {most:,.0f}")
    return float(number)  # type: ignore[arg-type]


def ttl(option: str, value: object) -> int | None:
    """Return a time to live in milliseconds."""
    if value is None:
        return None
    return max(1, round(1000 * seconds(option, value, 0.001, _TEN_YEARS)))


def choice(option: str, value: object, allowed: tuple[Any, ...]) -> Any:
    """Return one of the texts that are allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise wrong(option, value, " or ".join(map(repr, allowed)))
    return value


def text(option: str, value: object, what: str = "a text that is not empty") -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise wrong(option, value, what)
    return value


def secret(option: str, value: Any) -> Any:
    """Return a wrapped secret, checked; the errors do not show it."""
    if value is None:
        return None
    plain = revealed(value)
    problem = None
    if not isinstance(plain, (str, bytes)) or not plain:
        problem = "expected a text that is not empty, or null"
    elif isinstance(plain, str) and plain.strip("\r\n") != plain:
        problem = (
            "begins or ends with a line break, as the content of a file does; remove it: "
            "Path(file).read_text().strip()"
        )
    elif isinstance(plain, str) and len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\"":
        warnings.warn(
            f"{option}: the quotes around the value count as a part of it",
            UserWarning,
            stacklevel=2,
        )
    del plain  # a traceback may show the locals
    if problem is not None:
        raise ConfigurationError(option, problem)
    return value


def field_names(option: str, value: object) -> tuple[str, ...] | None:
    """Return the names of input fields, sorted."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, set, frozenset)):
        raise wrong(option, value, "a list of field names")
    if not value:
        raise ConfigurationError(option, "the list is empty; leave the option out instead")
    for name in value:
        if not isinstance(name, str) or not all(name.split(".")):
            raise wrong(option, name, "a field's name, or a dotted path to one (customer.income)")
    return tuple(sorted(set(value)))
