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
from typing import Any, Literal, TypeAlias

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
        layout = choice("layout", options["layout"], ("plain", "packed"))
        config = cls(
            endpoint=endpoint_from(options, environment),
            prefix=_prefix(options["prefix"]),
            hashing_fields=field_names("hashing_fields", options["hashing_fields"]),
            ignored_fields=field_names("ignored_fields", options["ignored_fields"]),
            ordered_dicts=flag("ordered_dicts", options["ordered_dicts"]),
            serder=_serder(options["serder"]),
            compressor=_compressor(options["use_compression"]),
            places=_places(options),
            ttl=_ttl(options["ttl"]),
            timeout=seconds("timeout", options["timeout"], 0.001, 60.0),
            on_error=choice("on_error", options["on_error"], ("predict", "raise")),
            revision=parse_revision(options["revision"]),
            integrity=flag("integrity", options["integrity"]) or key_secret is not None,
            key_secret=key_secret,
            encryption_key=secrets_of("encryption_key", options["encryption_key"]),
            max_entry_bytes=whole("max_entry_bytes", options["max_entry_bytes"], 1, 512 * 2**20),
            max_connections=whole("max_connections", options["max_connections"], 1, 10_000),
            max_connection_age=_age("max_connection_age", options["max_connection_age"]),
            credential_provider=access.credential_provider(options["credential_provider"]),
            address_map=access.address_map(options["address_map"]),
            cache_if=_cache_if(options["cache_if"]),
            enabled=flag("enabled", options["enabled"]) and not _is_disabled(environment),
            single_flight=_single_flight(options["single_flight"]),
            single_flight_wait=seconds(
                "single_flight_wait", options["single_flight_wait"], 0.001, 3600.0
            ),
            write=choice("write", options["write"], ("foreground", "background")),
            stale_if_error=ttl("stale_if_error", options["stale_if_error"]),
            stale_while_revalidate=ttl("stale_while_revalidate", options["stale_while_revalidate"]),
            near_cache=_near_cache(options["near_cache"]),
            near_ttl=seconds("near_ttl", options["near_ttl"], 0.001, 86_400.0),
            near_cache_bytes=whole("near_cache_bytes", options["near_cache_bytes"], 1_000, 2**40),
            batch_equality=choice(
                "batch_equality", options["batch_equality"], ("warn", "refuse", "ignore")
            ),
            verify=share("verify", options["verify"]),
            verify_first=whole("verify_first", options["verify_first"], 0, 1_000_000),
            verify_limit=_verify_limit(options["verify_limit"]),
            verify_tolerance=_verify_tolerance(options["verify_tolerance"]),
            layout=layout,
            expected_entries=_expected_entries(options["expected_entries"], layout),
            fleet_stats=flag("fleet_stats", options["fleet_stats"]),
            adaptive=flag("adaptive", options["adaptive"]),
            record=_record(options["record"]),
            record_share=share("record_share", options["record_share"], least=LEAST_SHARE),
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
        if self.near_cache is None:
            remedy = "without near_cache; set near_cache to the number of entries to keep"
            if self.near_ttl != DEFAULT_NEAR_TTL:
                raise _without_effect("near_ttl", options, remedy)
            if self.near_cache_bytes != DEFAULT_NEAR_BYTES:
                raise _without_effect("near_cache_bytes", options, remedy)
        if not (self.verify or self.verify_first):
            remedy = "without verify or verify_first; set one of them"
            if self.verify_limit != DEFAULT_VERIFY_LIMIT:
                raise _without_effect("verify_limit", options, remedy)
            if self.verify_tolerance is not None:
                raise _without_effect("verify_tolerance", options, remedy)
        if self.record is None and self.record_share != 1.0:
            remedy = "without record; set record to the folder for the requests"
            raise _without_effect("record_share", options, remedy)
        if self.single_flight == "off" and self.single_flight_wait != DEFAULT_FLIGHT_WAIT:
            remedy = "with single_flight: off; set single_flight to process or fleet"
            raise _without_effect("single_flight_wait", options, remedy)


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


def _verify_limit(value: object) -> int | None:
    return None if value is None else whole("verify_limit", value, 0, 1_000_000)


def _verify_tolerance(value: object) -> float | None:
    return None if value is None else share("verify_tolerance", value)


def _without_effect(option: str, options: Mapping[str, Any], remedy: str) -> ConfigurationError:
    message = f"{options[option]!r} has no effect {remedy}, or remove {option}"
    return ConfigurationError(option, message)


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


def _prefix(value: object) -> str | None:
    return None if value is None else text("prefix", value, "a non-empty string, or null")


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
            raise ConfigurationError(
                "expected_entries",
                f"{value!r} has no effect without layout: packed; set layout to packed, or remove "
                "expected_entries",
            )
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


def _cache_if(value: object) -> CacheIf | None:
    return None if value is None else _function("cache_if", value, "bool")


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
