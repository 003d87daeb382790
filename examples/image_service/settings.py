"""What differs from place to place, read from the environment once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The service's settings, and the environment variables that they are read from.

    Attributes:
        redis_url: REDIS_URL; where Redis is, in any of the decorator's forms.
        redis_password: read from the file that REDIS_PASSWORD_FILE names.
        cache_ttl: CACHE_TTL; seconds for which an answer is kept.
        cache_timeout: CACHE_TIMEOUT; seconds that a request may lose to Redis.
        max_body_bytes: MAX_BODY_BYTES; of a request. An image in base64 takes a third more.
        max_pixels: MAX_PIXELS; of an image.
        max_requests: MAX_REQUESTS; how many a process answers at once, lest it run out of memory.
        body_seconds: BODY_SECONDS; how long a client may take to send a request.
        max_uploads: MAX_UPLOADS; how many clients may send at once. More than `max_requests`, so
            that slow ones keep nobody out.
    """

    redis_url: str | None = field(default=None, repr=False)
    redis_password: str | None = field(default=None, repr=False)
    cache_ttl: float = 7 * 86_400.0
    cache_timeout: float = 0.1
    max_body_bytes: int = 10 * 2**20
    max_pixels: int = 20_000_000
    max_requests: int = 32
    body_seconds: float = 30.0
    max_uploads: int = 128

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            ValueError: a variable that is no positive number.
            OSError: the password's file can't be read.
        """
        values: dict[str, object] = {
            "redis_url": environment.get("REDIS_URL") or None,
            "redis_password": _secret(environment.get("REDIS_PASSWORD_FILE")),
        }
        for name in ("cache_ttl", "cache_timeout", "body_seconds"):
            values |= _number(environment, name, float)
        for name in ("max_body_bytes", "max_pixels", "max_requests", "max_uploads"):
            values |= _number(environment, name, int)
        return cls(**values)  # type: ignore[arg-type]


def _secret(path: str | None) -> str | None:
    return Path(path).read_text(encoding="utf-8").rstrip("\r\n") if path else None


def _number(
    environment: Mapping[str, str], name: str, kind: type[int] | type[float]
) -> dict[str, float]:
    variable = name.upper()
    text = environment.get(variable)
    if not text:
        return {}
    what = "whole number" if kind is int else "number"
    try:
        value = kind(text)
    except ValueError as error:
        raise ValueError(f"{variable}={text!r} is not a {what}") from error
    if not 0 < value < float("inf"):
        raise ValueError(f"{variable}={text!r} is not a positive {what}")
    return {name: value}
