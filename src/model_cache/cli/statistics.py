"""`stats`: what the cache has saved in the whole fleet, by model and version. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model_cache.cli.inventory import Reader
from model_cache.cli.wanted import ModelVersion, Wanted
from model_cache.errors import ConfigurationError, StoreAnsweredError
from model_cache.keys.key import Namespace
from model_cache.observing.counters import COUNTS, Stats
from model_cache.prediction.fleet_counts import (
    PATTERN,
    counts,
    parse_statistics_key,
    statistics_key,
)
from model_cache.protocols import Store
from model_cache.stores.server import RedisStore

# Entries read of each version, for their memory.
_SAMPLE = 200


@dataclass(frozen=True)
class ModelStatistics(ModelVersion):
    """What one version of a model has done in all processes, and what it has in Redis.

    Attributes:
        stats: the counts of all processes since the hash exists.
        entries: how many there are; None if keys can't be listed.
        bytes: their memory, estimated from a sample; None if the server does not say.
    """

    stats: Stats
    entries: int | None
    bytes: int | None

    def answer(self, price_per_hour: float | None) -> dict[str, Any]:
        """Return it for JSON."""
        stats = self.stats
        return {
            "prefix": self.prefix,
            "model": self.model,
            "version": self.version,
            "predictions": stats.predictions,
            "hit_ratio": stats.hit_ratio,
            "lookup_hit_ratio": stats.lookup_hit_ratio,
            "break_even": stats.break_even,
            "seconds_saved": stats.seconds_saved,
            "money_saved": money(stats.seconds_saved, price_per_hour),
            "entries": self.entries,
            "bytes": self.bytes,
            "counts": {name: value for name, value in asdict(stats).items() if name in COUNTS},
        }


def money(seconds: float, price_per_hour: float | None) -> float | None:
    """Return what seconds of model time cost; None without a price."""
    return None if price_per_hour is None else seconds / 3600 * price_per_hour


def collect(
    servers: Mapping[str, RedisStore], store: Store, timeout: float, wanted: Wanted
) -> list[ModelStatistics]:
    """Return the statistics of the wanted models, sorted by prefix, name and version.

    Args:
        servers: the servers by address, to list keys and entries.
        store: the same servers as one store, which finds counts whose slot is moving.
        timeout: seconds that each round trip may take.
        wanted: which models.

    Raises:
        ConfigurationError: Redis is behind a proxy, which can't list keys, and no model is named.
        StoreUnavailableError: Redis failed.
    """
    if any(server.proxied for server in servers.values()):
        return [_behind_proxy(store, timeout, wanted)]
    found: dict[tuple[str | None, str, str], Stats] = {}
    for server in servers.values():
        for key in server.scan(PATTERN, timeout):
            parts = parse_statistics_key(key)
            if parts is not None and wanted.has(*parts):
                found[parts] = _counts_at(store, key, timeout)
    inventory = Reader(servers, timeout).take_inventory(
        lambda key: wanted.has(*key[:3]), sample=_SAMPLE
    )
    entries = {(each.prefix, each.model, each.version): each for each in inventory.models}
    made = []
    for parts in sorted({*found, *entries}, key=lambda parts: tuple(part or "" for part in parts)):
        have = entries.get(parts)
        number, size = (0, 0) if have is None else (have.entries, have.bytes)
        made.append(ModelStatistics(*parts, found.get(parts, Stats()), number, size))
    return made


def _counts_at(store: Store, key: bytes, timeout: float) -> Stats:
    try:
        return counts(store.add_counts(key, {}, timeout))
    except StoreAnsweredError as error:
        if error.kind != "WRONGTYPE":  # somebody else's key
            raise
        return Stats()


def _behind_proxy(store: Store, timeout: float, wanted: Wanted) -> ModelStatistics:
    if wanted.model is None or wanted.version is None:
        raise ConfigurationError(
            "--proxied", "the proxy can't list keys; give --model and --version (and --prefix)"
        )
    parts = wanted.prefix, wanted.model, wanted.version
    found = store.add_counts(statistics_key(Namespace(*parts)), {}, timeout)
    return ModelStatistics(*parts, counts(found), None, None)
