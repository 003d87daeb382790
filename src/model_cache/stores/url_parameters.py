"""Parse the query parameters of a url, including those meant for other libraries.

Deployments often share one url between redis-py, Celery and this library. Parameters of the other
libraries are translated, or ignored with a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from urllib.parse import parse_qsl

from model_cache.errors import did_you_mean
from model_cache.stores import tls

LOGIN = ("username", "password")
_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")
_OWN: Mapping[str, tuple[str, ...]] = {
    "standalone": ("db", *LOGIN),
    "unix": ("db", *LOGIN),
    "cluster": ("replicas", *LOGIN),
    "sentinel": ("db", *LOGIN, *_SENTINEL_LOGIN),
}
# Celery's name for the database.
_SYNONYMS = {"virtual_host": "db"}

_INSTEAD = {
    "socket_timeout": "timeout",
    "socket_connect_timeout": "timeout",
    "timeout": "timeout",
    "connect_timeout": "timeout",
    "max_connections": "max_connections",
    "global_keyprefix": "prefix",
}
"""Ignored parameters with an equivalent option; their values may mean something else."""

_FOREIGN = frozenset({
    *_INSTEAD,
    # redis-py
    "client_name", "credential_provider", "decode_responses", "driver_info", "encoding",
    "encoding_errors", "health_check_interval", "legacy_responses", "lib_name", "lib_version",
    "protocol", "retry", "retry_on_error", "retry_on_timeout", "single_connection_client",
    "socket_keepalive", "socket_keepalive_options", "socket_read_size", "socket_type",
    "ssl_ca_data", "ssl_ca_path", "ssl_ciphers", "ssl_exclude_verify_flags",
    "ssl_include_verify_flags", "ssl_min_version", "ssl_ocsp_context", "ssl_ocsp_expected_cert",
    "ssl_password", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled",
    # Celery and kombu
    "ack_emulation", "fanout_patterns", "fanout_prefix", "failover_strategy", "heartbeat",
    "login_method", "master_name", "min_other_nodes", "priority_steps", "queue_order_strategy",
    "result_chord_ordered", "retry_policy", "sep", "unacked_index_key", "unacked_key",
    "unacked_mutex_expire", "unacked_mutex_key", "unacked_restore_limit", "visibility_timeout",
})  # fmt: skip
"""Ignored parameters of redis-py, Celery and kombu."""


class MalformedUrlError(ValueError):
    """A malformed url; the message contains no part of the url that may be secret."""


def parameters_of(query: str, topology: str, *, encrypted: bool, shared: bool) -> dict[str, str]:
    """Return the parameters in a url's query.

    Args:
        query: the raw query string.
        topology: a key of the table above.
        encrypted: whether the url uses TLS.
        shared: whether other libraries use the same url; unknown parameters are ignored then.

    Raises:
        MalformedUrlError: a parameter is unknown, empty or given twice.
    """
    own = _OWN[topology] + (tls.NAMES if encrypted else ())
    found: dict[str, str] = {}
    ignored: list[str] = []
    for written, value in parse_qsl(query, keep_blank_values=True):
        name = _SYNONYMS.get(written, written)
        if "@" in name + value and name not in LOGIN + _SENTINEL_LOGIN:
            raise MalformedUrlError("escape '?' in a password as %3F, and '@' as %40")
        if name not in own:
            if not shared and written not in _FOREIGN:
                raise MalformedUrlError(_unknown(written, own, topology))
            ignored.append(written)
        elif shared and (name in found or not value):
            continue  # like redis-py
        elif name in found or not value:
            raise MalformedUrlError(f"parameter {name!r} is empty or given twice")
        else:
            found[name] = value.strip("/") if written == "virtual_host" else value
    if ignored:
        _warn(ignored)
    return found


def _unknown(name: str, own: tuple[str, ...], topology: str) -> str:
    # Show only names from a list: an unknown one may be part of a password.
    if name in tls.NAMES and topology != "unix":
        return f"{name} needs TLS: use rediss:// instead of redis://"
    return f"unknown parameter; {did_you_mean(name, own)}"


def _warn(names: list[str]) -> None:
    known = [name for name in names if name in _FOREIGN or name in tls.NAMES]
    others = len(names) - len(known)
    shown = ", ".join(map(repr, known))
    if others:
        shown += f"{' and ' if known else ''}{others} unknown parameter{'s' * (others > 1)}"
    instead = sorted({_INSTEAD[name] for name in known if name in _INSTEAD})
    hint = f"; use the option {' or '.join(map(repr, instead))} instead" if instead else ""
    warnings.warn(f"ignored in the Redis url: {shown}{hint}", UserWarning, stacklevel=2)


def flag_in(parameters: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return a flag from the parameters, spelled as in urls for redis-py."""
    if name not in parameters:
        return default
    value = plain_flag(parameters[name])
    if value not in ("true", "false"):
        raise MalformedUrlError(f"{name}: expected true or false, got {parameters[name]!r}")
    return value == "true"


def plain_flag(value: str) -> str:
    """Convert redis-py's spellings of a flag, such as 1 or No, to "true" or "false"."""
    lower = value.lower()
    if lower in ("1", "t", "true", "y", "yes"):
        return "true"
    return "false" if lower in ("0", "f", "false", "n", "no") else value
