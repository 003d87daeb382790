"""Hints for options that do not exist: other libraries' names for them, and misspellings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from model_cache.errors import ConfigurationError

# By option, what redis-py, other caches and rest services call it.
_ALIASES = {
    "credential_provider": ("credentials",),
    "database": ("db", "redis_db"),
    "encryption_key": ("aes_key", "encrypt", "encryption", "encryption_keys", "fernet_key"),
    "enabled": ("active", "enable"),
    "hashing_fields": ("fields", "include", "included_fields", "key_fields"),
    "host": ("hostname", "redis_host", "server"),
    "ignored_fields": ("exclude", "excluded", "excluded_fields", "ignore", "ignored", "skip"),
    "key_secret": ("hmac_key", "secret", "secret_key"),
    "max_connections": ("connections", "max_pool_size", "pool_size"),
    "max_entry_bytes": ("max_bytes", "max_value_size"),
    "near_cache": ("local_cache", "lru", "max_size", "maxsize"),
    "number_of_places": ("decimal_places", "decimals", "digits", "places", "precision"),
    "ordered_dicts": ("dict_order", "ordered"),
    "password": ("auth", "pass", "passwd", "pwd", "redis_password"),
    "port": ("redis_port",),
    "prefix": ("cache_prefix", "key_prefix", "namespace"),
    "reduced_precision": ("round", "rounding"),
    "revision": ("model_revision",),
    "serder": ("codec", "encoder", "format", "serde", "serializer", "serialiser"),
    "ssl_ca_certs": ("ca_certs", "ssl_ca", "ssl_ca_cert", "tls_ca"),
    "ssl_certfile": ("certfile", "ssl_cert", "tls_cert"),
    "ssl_keyfile": ("keyfile", "ssl_key", "tls_key"),
    "timeout": ("socket_connect_timeout", "socket_timeout", "connect_timeout"),
    "ttl": (
        *("cache_ttl", "default_ttl", "ex", "expire", "expire_after", "expires", "expires_in"),
        *("expiration", "expiry", "max_age", "time_to_live"),
    ),
    "url": ("connection_string", "dsn", "redis_url", "uri"),
    "use_compression": ("compress", "compression", "compressor"),
    "verify": ("check", "sample_rate", "verify_rate", "verify_share"),
    "username": ("login", "redis_user", "redis_username", "user"),
}
_OPTIONS = {alias: option for option, aliases in _ALIASES.items() for alias in aliases}

_TLS = "for TLS, use a rediss:// url, or ssl_ca_certs with host and port"
_CLIENT = "pass the address of Redis instead, as url, or as host and port"
_RETRIES = (
    "there are no retries: if Redis fails, the model predicts without the cache; "
    "timeout limits how long that takes"
)
_HINTS = {
    "model": "pass the model to set_model: RedisCachingDecorator(...).set_model(model)",
    **dict.fromkeys(("ssl", "tls", "use_ssl", "use_tls"), _TLS),
    **dict.fromkeys(("client", "connection", "connection_pool", "redis"), _CLIENT),
    **dict.fromkeys(("max_retries", "retries", "retry", "retry_on_timeout"), _RETRIES),
    "sort_keys": "to ignore the order of dicts in inputs, use ordered_dicts: false",
    **dict.fromkeys(("disable", "disabled"), "to turn the cache off, use enabled: false"),
    **dict.fromkeys(("expire_ms", "px", "ttl_ms"), "did you mean 'ttl'? It is in seconds"),
    "cluster": "for a cluster, use url: redis+cluster://host:6379",
    **dict.fromkeys(
        ("sentinel", "sentinels"), "for Sentinel, use url: redis+sentinel://host:26379/service"
    ),
    **dict.fromkeys(
        ("path", "socket_path", "unix_socket_path"),
        "for a Unix socket, use url: unix:///run/redis.sock",
    ),
}


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigurationError` for the first unknown option, with a hint."""
    for name in names:
        raise ConfigurationError(name, f"unknown option; {_hint(name, list(known))}")


def _hint(name: str, known: list[str]) -> str:
    spelled = name.lower().replace("-", "_")
    if spelled in _HINTS:
        return _HINTS[spelled]
    if spelled in _OPTIONS:
        return f"did you mean {_OPTIONS[spelled]!r}?"
    near = difflib.get_close_matches(spelled, [*known, *_OPTIONS], n=1)
    if near:
        return f"did you mean {_OPTIONS.get(near[0], near[0])!r}?"
    return "docs/options.md lists all options"
