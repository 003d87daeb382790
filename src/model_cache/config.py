"""Options: checked once, at the edge, and frozen.

Everything that the option alone shows is refused here, with a message that names the option,
the value and what is allowed; what takes the model's schema is refused by the binding. All
values are plain YAML types, or the Python types that stand for them.
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from model_cache import access
from model_cache.access import AddressMap, CredentialProvider
from model_cache.compressors import COMPRESSORS
from model_cache.endpoint import (
    DEFAULT,
    DefaultNumber,
    DefaultText,
    Endpoint,
    masked_url,
    parse_url,
)
from model_cache.errors import ConfigurationError, did_you_mean
from model_cache.events import Hook
from model_cache.protocols import Compressor, Serder
from model_cache.registry import imported
from model_cache.serders import SERDERS

CacheIf: TypeAlias = Callable[[Any, Any], bool]

DEFAULT_HOST, DEFAULT_PORT = DefaultText("localhost"), DefaultNumber(6379)
DEFAULT_DATABASE = DefaultNumber(0)

HOOKS = {
    "logging": "model_cache.integrations.logging:PredictionLog",
    "opentelemetry": "model_cache.integrations.opentelemetry:OpenTelemetryHook",
    "prometheus": "model_cache.integrations.prometheus:PrometheusHook",
}
"""The library's own hooks, by the names that the option `hooks` takes; imported on use."""

_SECRETS = ("password", "key_secret")
_TEN_YEARS = 10 * 365 * 86_400
_MOST_PLACES = 308


@dataclass(frozen=True)
class Config:
    """The options of a decorator, checked."""

    endpoint: Endpoint
    prefix: str | None
    hashing_fields: tuple[str, ...] | None
    ignored_fields: tuple[str, ...] | None
    serder: Serder
    compressor: Compressor | None
    places: Mapping[str, int] | int | None
    ttl: int | None
    timeout: float
    on_error: Literal["predict", "raise"]
    revision: str | tuple[Path, ...] | None
    integrity: bool
    key_secret: str | bytes | None = field(repr=False)
    max_entry_bytes: int
    max_connections: int
    max_connection_age: float
    credential_provider: CredentialProvider | None = field(repr=False)
    address_map: AddressMap | None
    cache_if: CacheIf | None
    enabled: bool
    single_flight: Literal["process", "fleet", "off"]
    single_flight_wait: float
    write: Literal["foreground", "background"]
    stale_if_error: int | None
    hooks: tuple[Hook, ...]

    @classmethod
    def parse(
        cls, options: Mapping[str, Any], environment: Mapping[str, str] = os.environ
    ) -> Config:
        """Check the options of `RedisCachingDecorator`.

        Raises:
            ConfigurationError: an option, or a pair of options, that can't be honoured.
        """
        key_secret = _secret("key_secret", options["key_secret"])
        hashing_fields = _field_names("hashing_fields", options["hashing_fields"])
        ignored_fields = _field_names("ignored_fields", options["ignored_fields"])
        if hashing_fields is not None and ignored_fields is not None:
            raise ConfigurationError(
                "ignored_fields", "excludes hashing_fields: give the one or the other"
            )
        ttl = _ttl("ttl", options["ttl"])
        stale_if_error = _ttl("stale_if_error", options["stale_if_error"])
        if stale_if_error is not None and ttl is None:
            raise ConfigurationError(
                "stale_if_error", "needs a ttl: entries that live for ever are never stale"
            )
        disabled = environment.get("MODEL_CACHE_DISABLED", "").strip().lower()
        return cls(
            endpoint=_endpoint(options, environment),
            prefix=_prefix(options["prefix"]),
            hashing_fields=hashing_fields,
            ignored_fields=ignored_fields,
            serder=_serder(options["serder"]),
            compressor=_compressor(options["use_compression"]),
            places=_places(options),
            ttl=ttl,
            timeout=_seconds("timeout", options["timeout"], 0.001, 60.0),
            on_error=_choice("on_error", options["on_error"], ("predict", "raise")),
            revision=_revision(options["revision"]),
            integrity=_flag("integrity", options["integrity"]) or key_secret is not None,
            key_secret=key_secret,
            max_entry_bytes=_whole("max_entry_bytes", options["max_entry_bytes"], 1, 512 * 2**20),
            max_connections=_whole("max_connections", options["max_connections"], 1, 10_000),
            max_connection_age=_age("max_connection_age", options["max_connection_age"]),
            credential_provider=access.credential_provider(options["credential_provider"]),
            address_map=access.address_map(options["address_map"]),
            cache_if=_cache_if(options["cache_if"]),
            enabled=_flag("enabled", options["enabled"])
            and disabled not in ("1", "true", "yes", "on"),
            single_flight=_choice(
                "single_flight",
                # YAML reads a bare `off` as false.
                "off" if options["single_flight"] is False else options["single_flight"],
                ("process", "fleet", "off"),
            ),
            single_flight_wait=_seconds(
                "single_flight_wait", options["single_flight_wait"], 0.001, 3600.0
            ),
            write=_choice("write", options["write"], ("foreground", "background")),
            stale_if_error=stale_if_error,
            hooks=_hooks(options["hooks"]),
        )


def refuse_unknown(unknown: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` for the first option that there is not."""
    for name in unknown:
        raise ConfigurationError(name, f"there is no such option; {did_you_mean(name, known)}")


def shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without their secrets."""
    safe = {name: "***" if name in _SECRETS and value else value for name, value in options.items()}
    if not isinstance(safe["credential_provider"], (str, type(None))):
        safe["credential_provider"] = type(safe["credential_provider"]).__qualname__
    if isinstance(safe["url"], str):
        safe["url"] = masked_url(safe["url"])
    return safe


def _wrong(option: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(option, f"{value!r} is not {allowed}")


def _flag(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(option, value, "true or false")
    return value


def _whole(option: str, value: object, least: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)  # an environment variable in YAML; the article's own annotations
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(option, value, f"a whole number from {least:,} to {most:,}")
    return value


def _seconds(option: str, value: object, least: float, most: float) -> float:
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not numeric or not least <= value <= most:  # type: ignore[operator]  # a NaN is not
        raise _wrong(option, value, f"a time in seconds from {least:g} to {most:,.0f}")
    return float(value)  # type: ignore[arg-type]


def _choice(option: str, value: object, allowed: tuple[Any, ...]) -> Any:
    if not isinstance(value, str) or value not in allowed:
        raise _wrong(option, value, " or ".join(map(repr, allowed)))
    return value


def _text(option: str, value: object, what: str = "a text that is not empty") -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(option, value, what)
    return value


def _prefix(value: object) -> str | None:
    return None if value is None else _text("prefix", value, "a text that is not empty, or null")


def _secret(option: str, value: object) -> str | bytes | None:
    if value is None or (isinstance(value, (str, bytes)) and value):
        return value
    # The value is not shown: it is meant to be a secret.
    raise ConfigurationError(option, "must be a text that is not empty, or null")


def _ttl(option: str, value: object) -> int | None:
    """Return a time to live in milliseconds."""
    if value is None:
        return None
    return max(1, round(1000 * _seconds(option, value, 0.001, _TEN_YEARS)))


def _age(option: str, value: object) -> float:
    return math.inf if value is None else _seconds(option, value, 1.0, 30 * 86_400)


def _field_names(option: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, set, frozenset)):
        raise _wrong(option, value, "a list of field names")
    if not value:
        raise ConfigurationError(option, "the list is empty; leave the option out instead")
    for name in value:
        if not isinstance(name, str) or not all(name.split(".")):
            raise _wrong(option, name, "a field's name, or a dotted path to one (customer.income)")
    return tuple(sorted(set(value)))


def _serder(value: object) -> Serder:
    return SERDERS.named(_text("serder", value, "the name of a serder, or package.module:name"))


def _compressor(value: object) -> Compressor | None:
    if value is None or value is False:
        return None
    name = "snappy" if value is True else value
    compressor = COMPRESSORS.named(
        _text("use_compression", name, "true, false, or the name of a compressor")
    )
    compressor.compress(b"")  # an extra that is not installed shows now
    return compressor


def _places(options: Mapping[str, Any]) -> Mapping[str, int] | int | None:
    """Return the places of each field to round, or of every float and Decimal, or None."""
    every = _flag("reduced_precision", options["reduced_precision"])
    fields = _field_names("reduced_precision_fields", options["reduced_precision_fields"])
    places = options["number_of_places"]
    if every and fields is not None:
        raise ConfigurationError(
            "reduced_precision", "excludes reduced_precision_fields: give the one or the other"
        )
    if not every and fields is None:
        if places is not None:
            raise ConfigurationError(
                "number_of_places",
                f"{places!r} is given without reduced_precision_fields; name the fields to round, "
                "or set reduced_precision to true for every float and Decimal",
            )
        return None
    if places is None:
        given = "reduced_precision" if every else "reduced_precision_fields"
        raise ConfigurationError(given, "needs number_of_places")
    if every:
        return _number_of_places(places)
    if not isinstance(places, Mapping):
        return dict.fromkeys(fields or (), _number_of_places(places))
    for name in set(places) ^ set(fields or ()):
        hint = "is missing" if name not in places else "is not in reduced_precision_fields"
        raise ConfigurationError("number_of_places", f"{name!r} {hint}")
    return {name: _number_of_places(places[name]) for name in fields or ()}


def _number_of_places(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MOST_PLACES:
        raise _wrong(
            "number_of_places",
            value,
            f"a whole number from -{_MOST_PLACES} to {_MOST_PLACES} (or, with "
            "reduced_precision_fields, a mapping from each field to one)",
        )
    return value


def _revision(value: Any) -> str | tuple[Path, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) and value:
        if Path(value).is_file():
            raise ConfigurationError(
                "revision", f"{value!r} is a file; to have it hashed, give a list: [{value!r}]"
            )
        return value
    paths = (value,) if isinstance(value, Path) else value
    is_list = isinstance(paths, (list, tuple)) and len(paths) > 0
    if is_list and all(isinstance(path, (str, Path)) and str(path) for path in paths):
        return tuple(map(Path, paths))
    allowed = "a text that is not empty (in quotes, in YAML), or a list of the model's files"
    raise _wrong("revision", value, allowed)


def _cache_if(value: object) -> CacheIf | None:
    if value is None:
        return None
    found = imported("cache_if", value) if isinstance(value, str) else value
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise _wrong(
            "cache_if",
            value,
            "a callable (input, prediction) -> bool, not async, or package.module:name",
        )
    function: CacheIf = found
    return function


def _hooks(value: object) -> tuple[Hook, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise _wrong("hooks", value, "a list of names, import paths or functions")
    hooks = tuple(map(_hook, value))
    names = [name for name, path in HOOKS.items() for hook in hooks if _is_made_by(path, hook)]
    for name in HOOKS:
        if names.count(name) > 1:
            raise ConfigurationError("hooks", f"{name!r} is there twice, and would count twice")
    return hooks


def _is_made_by(path: str, hook: Hook) -> bool:
    return f"{type(hook).__module__}:{type(hook).__qualname__}" == path


def _hook(value: object) -> Hook:
    found = value
    if isinstance(value, str):
        if value not in HOOKS and ":" not in value:
            raise ConfigurationError(
                "hooks",
                f"{value!r} is not known; {did_you_mean(value, HOOKS)} "
                "(or give 'package.module:name')",
            )
        found = imported("hooks", HOOKS.get(value, value))
    if isinstance(found, type):
        found = found()
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise _wrong("hooks", value, "a name, an import path or a function, not async")
    hook: Hook = found
    return hook


def _host(value: object) -> str:
    host = _text("host", value)
    if not re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:.%]+", host):
        # The value is not shown: it may be a url, with a password in it.
        raise ConfigurationError("host", "is not a host's name or address; a url goes into 'url'")
    return host


def _endpoint(options: Mapping[str, Any], environment: Mapping[str, str]) -> Endpoint:
    """Return where Redis is: by `url`, by host and port, by REDIS_URL, or on localhost."""
    url, username, password = options["url"], options["username"], options["password"]
    given = [
        name for name in ("host", "port", "database") if not isinstance(options[name], DEFAULT)
    ]
    if url is not None and given:
        raise ConfigurationError(
            "url", f"excludes {' and '.join(given)}: give the one or the other"
        )
    if username is not None:
        _text("username", username)
    _secret("password", password)
    if isinstance(password, bytes):
        raise ConfigurationError("password", "is not a text")
    if username is not None and password is None:
        raise ConfigurationError("username", "is given without a password")
    variable = environment.get("REDIS_URL")
    if url is not None:
        endpoint = parse_url("url", url)
    elif not given and username is None and password is None and variable:
        endpoint = parse_url("REDIS_URL", variable)
    else:
        endpoint = Endpoint(
            host=_host(options["host"]),
            port=_whole("port", options["port"], 1, 65_535),
            database=_whole("database", options["database"], 0, 2**31 - 1),
        )
    endpoint = endpoint.with_login(username, password)
    if options["credential_provider"] is not None:
        if endpoint.embedded:
            raise ConfigurationError("credential_provider", "the embedded server needs none")
        if endpoint.username is not None or endpoint.password is not None:
            raise ConfigurationError("credential_provider", "excludes a login, here or in the url")
    if endpoint.username is not None and endpoint.password is None:
        raise ConfigurationError("url", "names a user and no password; give it as 'password'")
    return endpoint.behind_proxy() if _flag("proxied", options["proxied"]) else endpoint
