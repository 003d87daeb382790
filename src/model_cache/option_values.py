"""Check and convert the value of one option: a flag, number, duration, choice or string.

Values often come from templates and environment variables, so numbers and flags may also be
strings. `options.config` defines which options exist and how they depend on each other.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.redaction import masked_url, revealed, sealed

TEN_YEARS = 10 * 365 * 86_400
"""The longest ttl, in seconds."""

_FLAGS = {"true": True, "false": False}
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_DECIMAL = re.compile(r"\s*[+-]?([0-9]{1,19}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\s*")
_LONGEST_SHOWN = 200


def wrong(option: str, value: object, allowed: str) -> ConfigurationError:
    """Return the error for a value that is not allowed."""
    text = masked_url(value) if isinstance(value, str) and "://" in value else value
    return ConfigurationError(option, f"expected {allowed}, got {text!r:.{_LONGEST_SHOWN}}")


def switch(value: object) -> object:
    """Convert "true" and "false", in any case, to a bool; return anything else unchanged."""
    return _FLAGS.get(value.strip().lower(), value) if isinstance(value, str) else value


def flag(option: str, value: object) -> bool:
    """Return a flag."""
    on = switch(value)
    if not isinstance(on, bool):
        raise wrong(option, value, "true or false")
    return on


def whole(option: str, value: object, least: int, most: int, alternative: str = "") -> int:
    """Return a whole number from `least` to `most`; the error also names an alternative."""
    number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        allowed = f"a whole number from {least:,} to {most:,}{alternative}"
        raise wrong(option, value, allowed)
    return int(number)  # a subclass is not a port for the socket module


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


def share(option: str, value: object, least: float = 0.0) -> float:
    """Return a share, from `least` to 1."""
    number = float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not least <= number <= 1:  # type: ignore[operator]
        raise wrong(option, value, f"a share from {least:g} to 1")
    return float(number)  # type: ignore[arg-type]


def ttl(option: str, value: object) -> int | None:
    """Return a time to live in milliseconds; None for no limit."""
    if value is None:
        return None
    return max(1, round(1000 * seconds(option, value, 0.001, TEN_YEARS)))


def choice(option: str, value: object, allowed: tuple[Any, ...]) -> Any:
    """Return one of the allowed strings."""
    if not isinstance(value, str) or value not in allowed:
        raise wrong(option, value, " or ".join(map(repr, allowed)))
    return value


def text(option: str, value: object, what: str = "a non-empty string") -> str:
    """Return a non-empty string."""
    if not isinstance(value, str) or not value:
        raise wrong(option, value, what)
    return value


def secret(option: str, value: Any) -> Any:
    """Return a wrapped secret after checking it; error messages never contain it."""
    if value is None:
        return None
    plain = revealed(value)
    problem = None
    if not isinstance(plain, (str, bytes)) or not plain:
        problem = "expected a non-empty string, or null"
    elif isinstance(plain, str) and plain.strip("\r\n") != plain:
        problem = (
            "starts or ends with a line break, probably because it was read from a file; "
            "remove it: Path(file).read_text().strip()"
        )
    elif isinstance(plain, str) and len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\"":
        warnings.warn(
            f"{option}: the value is in quotes, which are part of it",
            UserWarning,
            stacklevel=2,
        )
    del plain  # tracebacks can show local variables
    if problem is not None:
        raise ConfigurationError(option, problem)
    return value


def secrets_of(option: str, value: Any) -> tuple[Any, ...]:
    """Return the wrapped secrets of one, or of a list of several; none for None."""
    if value is None:
        return ()
    found = tuple(map(sealed, value)) if isinstance(value, (list, tuple)) else (value,)
    if not found:
        raise ConfigurationError(option, "the list is empty; omit the option instead")
    for each in found:
        if each is None:
            raise ConfigurationError(option, "expected a non-empty string, or a list of them")
        secret(option, each)
    return found


def field_names(option: str, value: object) -> tuple[str, ...] | None:
    """Return the names of input fields, sorted."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, set, frozenset)):
        raise wrong(option, value, "a list of field names")
    if not value:
        raise ConfigurationError(option, "the list is empty; omit the option instead")
    for name in value:
        if not isinstance(name, str) or not all(name.split(".")):
            raise wrong(option, name, "a field name or a dotted path (customer.income)")
    return tuple(sorted(set(value)))
