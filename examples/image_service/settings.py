"""The settings of the service, read from the environment once, at startup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The service's settings and their environment variables.

    Attributes:
        redis_url: REDIS_URL; the url of Redis, in any form that the decorator accepts.
        redis_password: the content of the file at REDIS_PASSWORD_FILE.
        cache_ttl: CACHE_TTL; seconds that an answer stays in the cache.
        cache_timeout: CACHE_TIMEOUT; the most seconds that a request may spend on Redis.
        max_body_bytes: MAX_BODY_BYTES; the limit of a request's body. Base64 adds a third.
        max_pixels: MAX_PIXELS; the limit of an image's pixels.
        max_requests: MAX_REQUESTS; how many requests a process handles at once, which limits its
            memory.
        body_seconds: BODY_SECONDS; how long a client may take to send a request.
        max_uploads: MAX_UPLOADS; how many clients may send at once. More than `max_requests`, so
            that slow clients do not block others.
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
            ValueError: a variable is not a positive number.
            OSError: the password file can't be read.
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
