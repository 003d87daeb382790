"""`doctor`: collects facts about servers; `checks` judges them.

It writes one small entry, which expires by itself, and deletes it.
"""

from __future__ import annotations

import base64
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model_cache.keys.buckets import ENTRIES_A_BUCKET, is_bucket, parse_bucket
from model_cache.keys.key import DIGEST_LENGTH, Namespace
from model_cache.stores.connection import ErrorReply
from model_cache.stores.server import RedisStore

SCRATCH_MODEL = "model-cache-doctor"
_SCRATCH_VERSION = "doctor"
_SCRATCH_TTL = b"10000"
_SETTINGS = (
    "save",
    "stop-writes-on-bgsave-error",
    "maxclients",
    "min-replicas-to-write",
    "cluster-require-full-coverage",
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
)
_ROUND_TRIPS = 200
# A node of a cluster serves some of the slots: among so many random keys, one is in them.
_MOST_KEYS = 1000
# Enough for an estimate; a server may have millions of keys.
_MOST_SCANS, _MOST_BUCKETS = 200, 500


@dataclass(frozen=True)
class PackedEntries:
    """The packed entries of one version of one model, estimated from a sample of its buckets.

    Attributes:
        namespace: the beginning of their keys.
        expected: how many were planned, at most.
        found: how many there are.
        hash_tables: the share of buckets that the server has turned into hash tables.
    """

    namespace: str
    expected: int
    found: int
    hash_tables: float


@dataclass(frozen=True)
class Facts:
    """What a server says about itself, and how it behaves.

    Attributes:
        address: the server's address.
        proxied: whether it is behind a proxy, which passes none of these commands on.
        in_cluster: whether it is used as a node of a cluster.
        namespace: where the scratch entry was.
        info: its INFO; None if it is not available.
        settings: the settings that CONFIG GET returned.
        cluster: its CLUSTER INFO; None if it is not available.
        errors: the error of each command that was tried; None for success.
        seconds: the latency of each of a number of GETs.
        clock_ahead: seconds that its clock is ahead of this machine's; None if unknown.
        clock_doubt: the uncertainty of that, in seconds.
        packed: the packed entries, if any.
    """

    address: str
    proxied: bool
    in_cluster: bool
    namespace: str
    info: Mapping[str, str] | None
    settings: Mapping[str, str]
    cluster: Mapping[str, str] | None
    errors: Mapping[str, str | None]
    seconds: tuple[float, ...]
    clock_ahead: float | None
    clock_doubt: float
    packed: tuple[PackedEntries, ...] = ()


def scratch_namespace(prefix: str | None, model: str | None) -> Namespace:
    """Return where to write the scratch entry: a model's keys, or the doctor's own."""
    return Namespace(prefix, model or SCRATCH_MODEL, _SCRATCH_VERSION)


def examine(
    address: str,
    server: RedisStore,
    timeout: float,
    namespace: Namespace,
    *,
    in_cluster: bool,
    tell: Callable[[int], None] = lambda _: None,
) -> Facts:
    """Return the facts about one server.

    Raises:
        StoreUnavailableError: the server is unavailable.
    """
    proxied = server.proxied

    def ask(*words: bytes) -> Any:
        return server.execute(timeout, *words)

    ask_server: Ask = (lambda *_: None) if proxied else ask  # a proxy rejects such commands
    info = _sections(ask_server(b"INFO"))  # before the checks add to the traffic
    has_cluster = in_cluster or (info or {}).get("cluster_enabled") == "1"
    ahead, doubt = _clock(ask_server)
    errors, seconds = _try_commands(ask, namespace, tell, proxied=proxied)
    return Facts(
        address=address,
        proxied=proxied,
        in_cluster=in_cluster,
        namespace=namespace.text,
        info=info,
        settings=_settings(ask_server),
        cluster=_sections(ask_server(b"CLUSTER", b"INFO")) if has_cluster else None,
        errors=errors,
        seconds=seconds,
        clock_ahead=ahead,
        clock_doubt=doubt,
        packed=() if proxied else _packed(server, timeout),
    )


Ask = Callable[..., Any]


def _sections(reply: object) -> Mapping[str, str] | None:
    """Return the lines `name:value` of a reply; None if the reply is an error."""
    if not isinstance(reply, bytes):
        return None
    lines = [line.partition(":") for line in reply.decode("utf-8", "replace").splitlines()]
    return {name: value for name, colon, value in lines if colon}


def _settings(ask: Ask) -> Mapping[str, str]:
    settings = {}
    for name in _SETTINGS:
        reply = ask(b"CONFIG", b"GET", name.encode())
        if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
            settings[name] = reply[1].decode("utf-8", "replace")
    return settings


def _packed(server: RedisStore, timeout: float) -> tuple[PackedEntries, ...]:
    plans: dict[tuple[str, int], list[tuple[int, bool]]] = {}
    for bucket, size, encoding in _buckets(server, timeout):
        parsed = parse_bucket(bucket)
        if parsed is not None and isinstance(size, int) and size:
            namespace = Namespace(*parsed[:3]).text
            is_table = encoding == b"hashtable"
            plans.setdefault((namespace, parsed.buckets), []).append((size, is_table))
    return tuple(
        PackedEntries(
            namespace,
            buckets * ENTRIES_A_BUCKET,
            round(buckets * statistics.fmean(size for size, _ in sample)),
            statistics.fmean(is_table for _, is_table in sample),
        )
        for (namespace, buckets), sample in sorted(plans.items())
    )


def _buckets(server: RedisStore, timeout: float) -> Iterator[tuple[bytes, Any, Any]]:
    """Yield some buckets, each with its size and how the server holds it."""
    keys: list[bytes] = []
    cursor = b"0"
    for _ in range(_MOST_SCANS):
        reply = server.execute(timeout, b"SCAN", cursor, b"MATCH", b"*/~*~*", b"COUNT", b"1000")
        if not isinstance(reply, list):
            break
        cursor, found = reply
        keys += filter(is_bucket, found)
        if cursor == b"0" or len(keys) >= _MOST_BUCKETS:
            break
    keys = keys[:_MOST_BUCKETS]
    sizes = server.execute_many(timeout, [(b"HLEN", key) for key in keys])
    encodings = server.execute_many(timeout, [(b"OBJECT", b"ENCODING", key) for key in keys])
    yield from zip(keys, sizes, encodings, strict=True)


def _clock(ask: Ask) -> tuple[float | None, float]:
    before = time.time()
    reply = ask(b"TIME")
    after = time.time()
    try:
        seconds, microseconds = map(int, reply)
    except (TypeError, ValueError):
        return None, 0.0
    return seconds + microseconds / 1e6 - (before + after) / 2, (after - before) / 2


def _try_commands(
    ask: Ask,
    namespace: Namespace,
    tell: Callable[[int], None],
    *,
    proxied: bool,
) -> tuple[Mapping[str, str | None], tuple[float, ...]]:
    """Use a key as the decorator does; return the error of each command, and latencies."""
    key = _scratch_key(ask, namespace)
    errors = {"SET": _error(ask(b"SET", key, b"{}", b"PX", _SCRATCH_TTL))}
    try:
        errors["GET"] = _error(ask(b"GET", key))
        seconds = []
        for number in range(_ROUND_TRIPS):
            started = time.perf_counter()
            ask(b"GET", key)
            seconds.append(time.perf_counter() - started)
            tell(number + 1)
        if not proxied:
            errors["SCAN"] = _error(ask(b"SCAN", b"0", b"MATCH", namespace.pattern, b"COUNT", b"1"))
    finally:
        delete = "DEL" if proxied else "UNLINK"
        errors[delete] = _error(ask(delete.encode(), key))
        if errors[delete] is not None and errors["SET"] is None:
            ask(b"SET", key, b"{}", b"PX", b"1")  # expires in a millisecond
    return errors, tuple(seconds)


def _scratch_key(ask: Ask, namespace: Namespace) -> bytes:
    for _ in range(_MOST_KEYS):
        digest = base64.urlsafe_b64encode(os.urandom(16))[:DIGEST_LENGTH]
        key = namespace.raw + digest
        reply = ask(b"GET", key)
        if not (isinstance(reply, ErrorReply) and reply.code in ("MOVED", "ASK")):
            break
    return key


def _error(reply: object) -> str | None:
    return str(reply) if isinstance(reply, Exception) else None
