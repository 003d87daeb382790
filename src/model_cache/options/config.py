"""Parse and validate the options of a decorator into a frozen `Config`.

An error names the option, the value and what is allowed. Checks that need the model's schemas run
later, in `binding`. Options are plain YAML types or the Python objects that they name.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import SecretBytes, SecretStr

from model_cache.entries.codec import Codec
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.encryption import Cipher
from model_cache.entries.row_entries import RowsSerder
from model_cache.entries.serders import SERDERS
from model_cache.entries.values import PythonValues
from model_cache.errors import ConfigurationError
from model_cache.import_paths import imported
from model_cache.keys.key import encryption_key, tag_key
from model_cache.observing.events import Hook
from model_cache.option_values import (
    choice,
    field_names,
    flag,
    seconds,
    secret,
    secrets_of,
    share,
    switch,
    text,
    ttl,
    whole,
    wrong,
)
from model_cache.options.connection import endpoint_from
from model_cache.options.hooks import hooks_of
from model_cache.protocols import Compressor, Serder
from model_cache.redaction import KeySecret, sealed_options
from model_cache.revision import parse_revision
from model_cache.stores import access
from model_cache.stores.access import AddressMap, CredentialProvider
from model_cache.stores.url import DefaultNumber, DefaultText, Endpoint

T = TypeVar("T")

CacheIf: TypeAlias = Callable[[Any, Any], bool]
Secret: TypeAlias = str | bytes | SecretStr | SecretBytes
TtlRule: TypeAlias = Callable[[Any, Any], "float | timedelta | None"]

DEFAULT_HOST, DEFAULT_PORT = DefaultText("localhost"), DefaultNumber(6379)
DEFAULT_DATABASE = DefaultNumber(0)
DEFAULT_FLIGHT_WAIT = 10.0
DEFAULT_VERIFY_LIMIT = 10
DEFAULT_NEAR_TTL, DEFAULT_NEAR_BYTES = 60.0, 64 * 2**20
LEAST_SHARE = 0.0001

_MOST_PLACES = 308
_MOST_ENTRIES = 100_000_000_000


@dataclass(frozen=True)
class Config:
    """The validated options of a decorator."""

    endpoint: Endpoint
    prefix: str | None
    hashing_fields: tuple[str, ...] | None
    serder: Serder
    compressor: Compressor | None
    places: Mapping[str, int] | int | None
    ignored_fields: tuple[str, ...] | None
    ordered_dicts: bool
    ttl: int | TtlRule | None
    timeout: float
    on_error: Literal["predict", "raise"]
    revision: str | tuple[Path, ...] | None
    integrity: bool
    key_secret: KeySecret | None
    encryption_key: tuple[KeySecret, ...]
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
    stale_while_revalidate: int | None
    near_cache: int | None
    near_ttl: float
    near_cache_bytes: int
    batch_equality: Literal["warn", "refuse", "ignore"]
    verify: float
    verify_first: int
    verify_limit: int | None
    verify_tolerance: float | None
    layout: Literal["plain", "packed"]
    expected_entries: int | None
    fleet_stats: bool
    adaptive: bool
    record: Path | None
    record_share: float
    hooks: tuple[Hook, ...]

    @property
    def longest_ttl(self) -> int | None:
        """The longest time that any entry may live, in milliseconds; None for any."""
        return None if callable(self.ttl) else self.ttl

    @classmethod
    def parse(
        cls,
        options: Mapping[str, Any],
        environment: Callable[[str], str | None] = os.getenv,
    ) -> Config:
        """Validate the options of `RedisCachingDecorator`.

        Raises:
            ConfigurationError: if an option is invalid or conflicts with another one.
        """
        options = sealed_options(options, options)
        key_secret = secret("key_secret", options["key_secret"])
        _refuse_conflicts(options)

        def checked(check: Callable[..., T], option: str, *allowed: Any) -> T:
            return check(option, options[option], *allowed)

        def optional(check: Callable[..., T], option: str, *allowed: Any) -> T | None:
            return None if options[option] is None else checked(check, option, *allowed)

        layout = checked(choice, "layout", ("plain", "packed"))
        config = cls(
            endpoint=endpoint_from(options, environment),
            prefix=optional(text, "prefix", "a non-empty string, or null"),
            hashing_fields=checked(field_names, "hashing_fields"),
            ignored_fields=checked(field_names, "ignored_fields"),
            ordered_dicts=checked(flag, "ordered_dicts"),
            serder=_serder(options["serder"]),
            compressor=_compressor(options["use_compression"]),
            places=_places(options),
            ttl=_ttl(options["ttl"]),
            timeout=checked(seconds, "timeout", 0.001, 60.0),
            on_error=checked(choice, "on_error", ("predict", "raise")),
            revision=parse_revision(options["revision"]),
            integrity=checked(flag, "integrity") or key_secret is not None,
            key_secret=key_secret,
            encryption_key=secrets_of("encryption_key", options["encryption_key"]),
            max_entry_bytes=checked(whole, "max_entry_bytes", 1, 512 * 2**20),
            max_connections=checked(whole, "max_connections", 1, 10_000),
            max_connection_age=checked(_age, "max_connection_age"),
            credential_provider=access.credential_provider(options["credential_provider"]),
            address_map=access.address_map(options["address_map"]),
            cache_if=optional(_function, "cache_if", "bool"),
            enabled=checked(flag, "enabled") and not _is_disabled(environment),
            single_flight=_single_flight(options["single_flight"]),
            single_flight_wait=checked(seconds, "single_flight_wait", 0.001, 3600.0),
            write=checked(choice, "write", ("foreground", "background")),
            stale_if_error=checked(ttl, "stale_if_error"),
            stale_while_revalidate=checked(ttl, "stale_while_revalidate"),
            near_cache=_near_cache(options["near_cache"]),
            near_ttl=checked(seconds, "near_ttl", 0.001, 86_400.0),
            near_cache_bytes=checked(whole, "near_cache_bytes", 1_000, 2**40),
            batch_equality=checked(choice, "batch_equality", ("warn", "refuse", "ignore")),
            verify=checked(share, "verify"),
            verify_first=checked(whole, "verify_first", 0, 1_000_000),
            verify_limit=optional(whole, "verify_limit", 0, 1_000_000),
            verify_tolerance=optional(share, "verify_tolerance"),
            layout=layout,
            expected_entries=_expected_entries(options["expected_entries"], layout),
            fleet_stats=checked(flag, "fleet_stats"),
            adaptive=checked(flag, "adaptive"),
            record=_record(options["record"]),
            record_share=checked(share, "record_share", LEAST_SHARE),
            hooks=hooks_of(options["hooks"]),
        )
        config._refuse_without_effect(options)
        config.cipher()  # fails now if an extra is missing
        return config

    @property
    def digest_secret(self) -> KeySecret | None:
        """What keys the digests: while keys rotate, the last one is the oldest."""
        if self.key_secret is None and self.encryption_key:
            return self.encryption_key[-1]
        return self.key_secret

    @property
    def hides_values(self) -> bool:
        """Whether explanations show no values, because keys are secret."""
        return self.digest_secret is not None

    def cipher(self) -> Cipher | None:
        """Return what encrypts entries; None if nothing does.

        Raises:
            ConfigurationError: the extra `encryption` is not installed.
        """
        if not self.encryption_key:
            return None
        return Cipher(list(map(encryption_key, self.encryption_key)))

    def codec(self, schema: type[Any], serder: Serder | PythonValues | RowsSerder) -> Codec:
        """Return what encodes predictions of a schema with a serder, and decodes them."""
        return Codec(
            schema,
            serder=serder,
            compressor=self.compressor,
            max_entry_bytes=self.max_entry_bytes,
            integrity=self.integrity,
            tag_key=tag_key(self.key_secret),
            cipher=self.cipher(),
            ttl=self.longest_ttl,
        )

    def _refuse_without_effect(self, options: Mapping[str, Any]) -> None:
        """Refuse options that only mean something beside another one, unless they are defaults."""
        verifies = bool(self.verify or self.verify_first)
        near = "without near_cache; set near_cache to the number of entries to keep"
        verify = "without verify or verify_first; set one of them"
        record = "without record; set record to the folder for the requests"
        flight = "with single_flight: off; set single_flight to process or fleet"
        for option, default, has_effect, remedy in (
            ("near_ttl", DEFAULT_NEAR_TTL, self.near_cache is not None, near),
            ("near_cache_bytes", DEFAULT_NEAR_BYTES, self.near_cache is not None, near),
            ("verify_limit", DEFAULT_VERIFY_LIMIT, verifies, verify),
            ("verify_tolerance", None, verifies, verify),
            ("record_share", 1.0, self.record is not None, record),
            ("single_flight_wait", DEFAULT_FLIGHT_WAIT, self.single_flight != "off", flight),
        ):
            if not has_effect and getattr(self, option) != default:
                raise _without_effect(option, options[option], remedy)


def _refuse_conflicts(options: Mapping[str, Any]) -> None:
    if options["hashing_fields"] is not None and options["ignored_fields"] is not None:
        raise ConfigurationError(
            "ignored_fields", "can't be combined with hashing_fields; use one of them"
        )
    for name in ("stale_if_error", "stale_while_revalidate"):
        if ttl(name, options[name]) is not None and options["ttl"] is None:
            raise ConfigurationError(name, "needs a ttl: entries without one never become stale")


def _record(value: object) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    return Path(text("record", value, "a folder, or null"))


def _without_effect(option: str, value: object, remedy: str) -> ConfigurationError:
    return ConfigurationError(option, f"{value!r} has no effect {remedy}, or remove {option}")


def _is_disabled(environment: Callable[[str], str | None]) -> bool:
    value = (environment("MODEL_CACHE_DISABLED") or "").strip().lower()
    return value in ("1", "true", "yes", "on")


def _single_flight(value: object) -> Literal["process", "fleet", "off"]:
    # YAML reads a bare `off` as false.
    named = "off" if switch(value) is False else value
    mode: Literal["process", "fleet", "off"] = choice(
        "single_flight", named, ("process", "fleet", "off")
    )
    return mode


def _age(option: str, value: object) -> float:
    return math.inf if value is None else seconds(option, value, 1.0, 30 * 86_400)


def _near_cache(value: object) -> int | None:
    if value is None or switch(value) is False:
        return None
    return whole("near_cache", value, 1, 10**9, ", or null for no near cache")


def _serder(value: object) -> Serder:
    return SERDERS.named(text("serder", value, "a serder's name, or package.module:name"))


def _compressor(value: object) -> Compressor | None:
    value = switch(value)
    if value is None or value is False:
        return None
    name = "snappy" if value is True else value
    compressor = COMPRESSORS.named(
        text("use_compression", name, "true, false, or a compressor's name")
    )
    compressor.compress(b"")  # fails now if an extra is missing
    return compressor


def _places(options: Mapping[str, Any]) -> Mapping[str, int] | int | None:
    """Return the decimal places per field, one number for all floats and Decimals, or None."""
    every = flag("reduced_precision", options["reduced_precision"])
    fields = field_names("reduced_precision_fields", options["reduced_precision_fields"])
    places = options["number_of_places"]
    if every and fields is not None:
        raise ConfigurationError(
            "reduced_precision", "can't be combined with reduced_precision_fields; use one of them"
        )
    if not every and fields is None:
        if places is not None:
            raise ConfigurationError(
                "number_of_places",
                f"{places!r} has no effect without reduced_precision_fields; list the fields to "
                "round, or set reduced_precision to true for every float and Decimal",
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


def _expected_entries(value: object, layout: str) -> int | None:
    if layout == "plain":
        if value is not None:
            remedy = "without layout: packed; set layout to packed"
            raise _without_effect("expected_entries", value, remedy)
        return None
    if value is None:
        raise ConfigurationError(
            "expected_entries",
            "is required for layout: packed; give the number of entries that you expect for one "
            "version of the model, such as 1000000",
        )
    return whole("expected_entries", value, 1, _MOST_ENTRIES)


def _number_of_places(value: object) -> int:
    return whole("number_of_places", value, -_MOST_PLACES, _MOST_PLACES)


def _ttl(value: object) -> int | TtlRule | None:
    if callable(value) or (isinstance(value, str) and ":" in value):
        rule: TtlRule = _function("ttl", value, "seconds")
        return rule
    return ttl("ttl", value)


def _function(option: str, value: object, returned: str) -> Any:
    """Return a function of an input and its prediction."""
    found = imported(option, value) if isinstance(value, str) else value
    if not callable(found) or inspect.iscoroutinefunction(found):
        allowed = f"a callable (input, prediction) -> {returned} that is not async"
        raise wrong(option, value, f"{allowed}, or package.module:name")
    return found
