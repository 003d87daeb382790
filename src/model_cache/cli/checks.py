"""What the facts about a server mean for a cache, and what to change (docs/capacity.md)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from model_cache.cli.doctor import SCRATCH_MODEL, Facts
from model_cache.cli.permissions import grant
from model_cache.words import count

Verdict: TypeAlias = Literal["ok", "note", "problem", "unknown"]

_BEST_POLICY = "allkeys-lru"
# Seconds by which entries may become stale too early or too late.
_MUCH_SKEW, _TOO_MUCH_SKEW = 1.0, 60.0
_MANY_CLIENTS = 0.8
_OVERFULL = 2.0
_MANY_HASH_TABLES = 0.05
_LISTPACK_ENTRIES, _LISTPACK_VALUE = 512, 64


@dataclass(frozen=True)
class Finding:
    """The result of one check of one server.

    Attributes:
        server: the server's address.
        check: the name of the check.
        verdict: "ok", "note", "problem", or "unknown".
        text: what was found.
        advice: what to change, if anything.
    """

    server: str
    check: str
    verdict: Verdict
    text: str
    advice: str | None = None


def check(facts: Facts, timeout: float) -> list[Finding]:
    """Return the findings about one server, for decorators with this timeout."""
    findings = [
        *_server(facts),
        *_topology(facts),
        *_memory(facts),
        *_traffic(facts),
        *_persistence(facts),
        *_clients(facts),
        *_clock(facts),
        *_permissions(facts),
        *_packed(facts),
        *_latency(facts, timeout),
    ]
    return [Finding(facts.address, *each) for each in findings]


_Result: TypeAlias = tuple[str, Verdict, str, str | None]


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _unknown(facts: Facts, check: str, command: str) -> _Result:
    why = "behind a proxy" if facts.proxied else f"{command} is not available"
    return check, "unknown", f"unknown: {why}", None


def _server(facts: Facts) -> Iterator[_Result]:
    info = facts.info
    if info is None:
        yield _unknown(facts, "server", "INFO")
        return
    name = info.get("server_name", "redis")
    version = info.get(f"{name}_version") or info.get("redis_version", "")
    major = _number(version.partition(".")[0])
    if name == "redis" and major is not None and major < 7:
        advice = "upgrade to Redis 7 or Valkey: older versions are not tested"
        yield "server", "note", f"{name} {version}", advice
    else:
        yield "server", "ok", f"{name} {version}", None


def _topology(facts: Facts) -> Iterator[_Result]:
    info, cluster = facts.info, facts.cluster
    if info is None:
        yield _unknown(facts, "role", "INFO")
    elif info.get("role") == "slave":
        advice = "use the url of its primary, redis+sentinel:// or redis+cluster://"
        yield "role", "problem", "a replica, which refuses writes", advice
    else:
        text = f"a primary; replicas: {info.get('connected_slaves', '?')}"
        yield "role", "ok", text, None
    if (_number(facts.settings.get("min-replicas-to-write")) or 0) > 0:
        text = "refuses writes when replicas are missing"
        yield "replication", "note", text, "CONFIG SET min-replicas-to-write 0"
    if info is not None and info.get("cluster_enabled") == "1" and not facts.in_cluster:
        advice = f"use redis+cluster://{facts.address}, here and in the decorator's url"
        yield "cluster", "problem", "a node of a Redis Cluster, used as a single server", advice
    if not facts.in_cluster:
        return
    state = (cluster or {}).get("cluster_state")
    if cluster is None or state is None:
        yield _unknown(facts, "cluster", "CLUSTER INFO")
    elif state != "ok" or cluster.get("cluster_slots_ok") != "16384":
        text = f"state {state}; {cluster.get('cluster_slots_ok')} of 16384 slots are served"
        yield "cluster", "problem", text, "see CLUSTER NODES for the nodes that failed"
    else:
        text = f"all slots are served, {cluster.get('cluster_known_nodes', '?')} nodes"
        yield "cluster", "ok", text, None
    if facts.settings.get("cluster-require-full-coverage") == "yes":
        text = "refuses all keys when one shard is lost"
        yield "coverage", "note", text, "CONFIG SET cluster-require-full-coverage no"


def _memory(facts: Facts) -> Iterator[_Result]:
    info = facts.info or {}
    limit, policy = _number(info.get("maxmemory")), info.get("maxmemory_policy", "")
    if limit is None:
        yield _unknown(facts, "memory", "INFO memory")
        return
    used = info.get("used_memory_human", "?")
    if limit == 0:
        machine = _number(info.get("total_system_memory"))
        most = f"{machine * 3 // 4 // 2**20}mb" if machine else "<bytes>"
        advice = f"CONFIG SET maxmemory {most}"
        advice += " (three quarters of the memory, if nothing else runs there)" if machine else ""
        if policy != _BEST_POLICY:
            advice += f"; CONFIG SET maxmemory-policy {_BEST_POLICY}"
        text = f"{used} used, no limit: it grows until the system runs out of memory"
        yield "memory", "note", text, advice
        return
    text = f"{used} of {info.get('maxmemory_human', limit)} used, {policy}"
    change = f"CONFIG SET maxmemory-policy {_BEST_POLICY}"
    if policy == "noeviction":
        yield "memory", "problem", f"{text}: once it is full, no new entries are stored", change
    elif policy.startswith("volatile"):
        text += ": evicts only entries with a TTL"
        yield (
            "memory",
            "note",
            text,
            f"{change}, unless other keys there must not be evicted",
        )
    elif policy in (_BEST_POLICY, "allkeys-lfu"):
        yield "memory", "ok", text, None
    else:
        yield "memory", "note", f"{text}: evicts popular entries, too", change


def _traffic(facts: Facts) -> Iterator[_Result]:
    info = facts.info or {}
    hits, misses = _number(info.get("keyspace_hits")), _number(info.get("keyspace_misses"))
    evicted = _number(info.get("evicted_keys"))
    if hits is None or misses is None or evicted is None:
        yield _unknown(facts, "traffic", "INFO stats")
        return
    looked_up = hits + misses
    text = "no lookups yet"
    if looked_up:
        text = f"{hits / looked_up:.1%} of {count(looked_up, 'lookup')} hit"
    if evicted:
        advice = "double maxmemory as long as that raises the hit ratio enough"
        yield "traffic", "note", f"{text}; {count(evicted, 'key')} evicted", advice
    else:
        yield "traffic", "ok", f"{text}; no keys evicted", None


def _persistence(facts: Facts) -> Iterator[_Result]:
    info, save = facts.info or {}, facts.settings.get("save")
    if facts.info is None:
        yield _unknown(facts, "persistence", "INFO persistence")
        return
    stops = facts.settings.get("stop-writes-on-bgsave-error", "yes") == "yes"
    if info.get("rdb_last_bgsave_status") == "err" and stops and save != "":
        text = "the last snapshot failed, so writes are refused (MISCONF)"
        yield "persistence", "problem", text, 'CONFIG SET save "", or repair its disk'
        return
    if info.get("aof_enabled") == "1":
        text = "append-only file, which a cache does not need"
        yield "persistence", "note", text, "CONFIG SET appendonly no"
    if save:
        text = f"snapshots (save {save}): each forks and needs memory beyond maxmemory"
        advice = 'CONFIG SET save "", unless a cold cache takes hours to warm up'
        yield "persistence", "note", text, advice
    elif save is None:
        yield _unknown(facts, "snapshots", "CONFIG GET save")
    elif info.get("aof_enabled") != "1":
        yield "persistence", "ok", "off", None


def _clients(facts: Facts) -> Iterator[_Result]:
    info = facts.info or {}
    clients = _number(info.get("connected_clients"))
    most = _number(info.get("maxclients") or facts.settings.get("maxclients"))
    rejected = _number(info.get("rejected_connections")) or 0
    if clients is None or most is None:
        yield _unknown(facts, "connections", "INFO clients or CONFIG GET maxclients")
        return
    text = f"{clients:,} of {most:,}"
    if clients >= _MANY_CLIENTS * most:
        advice = f"CONFIG SET maxclients {2 * most}, or lower max_connections in the decorators"
        yield "connections", "problem", text, advice
    elif rejected:
        advice = f"CONFIG SET maxclients {2 * most}, if this happens again"
        yield "connections", "note", f"{text}; {rejected:,} refused since it started", advice
    else:
        yield "connections", "ok", text, None


def _clock(facts: Facts) -> Iterator[_Result]:
    ahead = facts.clock_ahead
    if ahead is None:
        yield _unknown(facts, "clock", "TIME")
        return
    least = max(0.0, abs(ahead) - facts.clock_doubt)
    direction = "ahead of" if ahead > 0 else "behind"
    text = f"{abs(ahead):.3f} s {direction} this machine's"
    advice = "synchronize both clocks (NTP): stale_if_error and packed entries compare times"
    yield _graded("clock", least, _MUCH_SKEW, _TOO_MUCH_SKEW, text, advice)


def _graded(
    check: str, value: float, much: float, too_much: float, text: str, advice: str
) -> _Result:
    if value < much:
        return check, "ok", text, None
    return check, "problem" if value >= too_much else "note", text, advice


def _permissions(facts: Facts) -> Iterator[_Result]:
    refused = {command: error for command, error in facts.errors.items() if error is not None}
    for command, error in refused.items():
        needed = command in ("GET", "SET")
        if error.startswith("NOPERM"):
            pattern = facts.namespace.rpartition("/doctor/")[0] + "/*"
            advice = grant(f"~{pattern}", f"+{command.lower()}")
            if facts.namespace.endswith(f"{SCRATCH_MODEL}/doctor/"):
                advice += "; or give --model if the login is limited to one model"
            text = f"{command} is not permitted"
            text += "" if needed else "; purge needs it"
            if command == "UNLINK":
                text += ", and so does single_flight: fleet"
            yield "permissions", "problem" if needed else "note", text, advice
        else:
            text = f"{command} was refused: {error:.200}"
            yield "permissions", "problem", text, _REASONS.get(error.partition(" ")[0])
    if not refused:
        text = f"{', '.join(sorted(facts.errors))} work under {facts.namespace}"
        yield "permissions", "ok", text, None


def _packed(facts: Facts) -> Iterator[_Result]:
    for each in facts.packed:
        ratio = each.found / each.expected
        found = count(each.found, "packed entry", "packed entries")
        text = f"{each.namespace}: about {found}, {each.expected:,} expected"
        if ratio >= _OVERFULL:
            cost = "slower and larger" if each.hash_tables > _MANY_HASH_TABLES else "slower"
            text = f"{text}: {ratio:.1f} times as many, which makes them {cost}"
            advice = f"expected_entries: {each.found} in the decorator; the cache starts empty then"
            yield "packed", "note", text, advice
        elif each.hash_tables > _MANY_HASH_TABLES:
            text = (
                f"{text}; {each.hash_tables:.0%} of the buckets are hash tables, which are larger"
            )
            yield "packed", "note", text, _for_listpacks(facts)
        else:
            yield "packed", "ok", text, None


def _for_listpacks(facts: Facts) -> str | None:
    """Return which settings of the server are lower than buckets need."""
    needed = {
        "hash-max-listpack-entries": _LISTPACK_ENTRIES,
        "hash-max-listpack-value": _LISTPACK_VALUE,
    }
    low = [
        f"CONFIG SET {name} {number}"
        for name, number in needed.items()
        if (given := _number(facts.settings.get(name))) is not None and given < number
    ]
    return "; ".join(low) or None


_REASONS = {
    "OOM": f"CONFIG SET maxmemory-policy {_BEST_POLICY}",
    "READONLY": "use the url of the primary, redis+sentinel:// or redis+cluster://",
    "MISCONF": 'CONFIG SET save "", or repair its disk',
    "NOREPLICAS": "CONFIG SET min-replicas-to-write 0",
    "MOVED": "use redis+cluster://",
    "CLUSTERDOWN": "see CLUSTER NODES for the nodes that failed",
}


def _latency(facts: Facts, timeout: float) -> Iterator[_Result]:
    ordered = sorted(facts.seconds)
    if not ordered:
        return
    median = statistics.median(ordered)
    high = ordered[math.ceil(0.99 * len(ordered)) - 1]
    text = f"{len(ordered)} GETs: median {1000 * median:.2f} ms, 99% within {1000 * high:.2f} ms"
    text += f"; the decorator's timeout is {1000 * timeout:g} ms"
    advice = f"timeout: {max(0.1, math.ceil(40 * high) / 10):g} in the decorator, or a closer Redis"
    yield _graded("latency", high, timeout / 2, timeout, text, advice)
