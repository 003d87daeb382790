"""The options of `Cache` and of what it caches, for type checkers.

`RedisCachingDecorator` describes each option; a test compares the names and types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypedDict

from pydantic import SecretStr

from model_cache.observing.events import Hook
from model_cache.options.config import CacheIf, Secret, TtlRule
from model_cache.stores.access import AddressMap, CredentialProvider


class EntryOptions(TypedDict, total=False):
    """How predictions are kept: for a whole cache, or anew for one of its models."""

    adaptive: bool
    batch_equality: Literal["warn", "refuse", "ignore"]
    cache_if: CacheIf | str | None
    enabled: bool
    encryption_key: Secret | Sequence[Secret] | None
    fleet_stats: bool
    hooks: Sequence[str | Hook] | None
    integrity: bool
    key_secret: Secret | None
    max_entry_bytes: int
    on_error: Literal["predict", "raise"]
    prefix: str | None
    record: str | Path | None
    record_share: float
    single_flight: Literal["process", "fleet", "off"]
    single_flight_wait: float
    stale_if_error: float | timedelta | None
    stale_while_revalidate: float | timedelta | None
    ttl: float | timedelta | TtlRule | str | None
    use_compression: bool | str
    verify: float
    verify_first: int
    verify_limit: int | None
    verify_tolerance: float | None
    write: Literal["foreground", "background"]


class CacheOptions(EntryOptions, total=False):
    """Where entries go, and how they are kept."""

    address_map: Mapping[str, str] | AddressMap | str | None
    credential_provider: CredentialProvider | str | None
    database: int
    expected_entries: int | None
    host: str
    layout: Literal["plain", "packed"]
    max_connection_age: float | timedelta | None
    max_connections: int
    near_cache: int | None
    near_cache_bytes: int
    near_ttl: float | timedelta
    password: str | SecretStr | None
    port: int
    proxied: bool
    serder: str
    ssl_ca_certs: str | Path | None
    ssl_cert_reqs: str | None
    ssl_certfile: str | Path | None
    ssl_check_hostname: bool | None
    ssl_keyfile: str | Path | None
    timeout: float
    username: str | None


class ModelOptions(EntryOptions, total=False):
    """What an ml-base model's key is made of, and how its predictions are kept."""

    hashing_fields: Sequence[str] | None
    ignored_fields: Sequence[str] | None
    number_of_places: int | Mapping[str, int] | None
    ordered_dicts: bool
    reduced_precision: bool
    reduced_precision_fields: Sequence[str] | None
    revision: str | Path | Sequence[str | Path] | None
    serder: str
