"""`inspect`: which models have entries in a Redis, and what one entry holds. It only reads."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from model_cache.cli.locations import Located, entries_at, locations
from model_cache.cli.permissions import missing_rule
from model_cache.cli.wanted import ModelVersion
from model_cache.entries.describe import Description, describe
from model_cache.entries.encryption import Cipher
from model_cache.errors import ConfigurationError
from model_cache.keys.key import EntryKey, Namespace, parse_key
from model_cache.prediction.fleet_counts import parse_statistics_key
from model_cache.prediction.generation import is_generation
from model_cache.stores.packing import is_reference, taken_apart
from model_cache.stores.server import RedisStore

TimeLeft: TypeAlias = int | Literal["unknown"] | None
"""Milliseconds; None for until evicted, "unknown" if the server does not say."""

Layout: TypeAlias = Literal["plain", "packed"]

# Entries fetched per round trip: each may be a megabyte or more.
_BATCH = 20


@dataclass(frozen=True)
class TimesLeft:
    """The TTLs left of the sampled entries, in milliseconds.

    Attributes:
        known: how many entries the server gave a TTL for.
        without_ttl: the share of these that live until they are evicted.
        least: the shortest TTL; None if no entry has one.
        median: their median; None if no entry has one.
        most: the longest TTL; None if no entry has one.
    """

    known: int
    without_ttl: float
    least: int | None
    median: int | None
    most: int | None


@dataclass(frozen=True)
class ModelEntries(ModelVersion):
    """The entries of one version of one model under one prefix.

    Attributes:
        entries: how many there are.
        looked_at: how many were read for the fields below; a random sample unless all were.
        bytes: memory of all entries with their keys, estimated from the sample; None if the
            server does not say.
        value_bytes: size of all values, estimated from the sample.
        ttl: the TTLs left.
        stale: how many are past their TTL and only serve `stale_if_error`.
        serders: how many were written with each serder.
        compressors: how many were written with each compressor; "none" for uncompressed ones.
        forms: how many are "plain", and how many in an "envelope".
        layouts: how many are "plain", and how many "packed".
        encrypted: how many are encrypted.
        tags: how many have a tag that is "right", a "wrong" one, or "none".
        problems: why entries can't be decoded, and how many.
        keys: keys of the sample, up to the number asked for.
    """

    entries: int
    looked_at: int
    bytes: int | None
    value_bytes: int
    ttl: TimesLeft
    stale: int
    serders: Mapping[str, int]
    compressors: Mapping[str, int]
    forms: Mapping[str, int]
    layouts: Mapping[str, int]
    encrypted: int
    tags: Mapping[str, int]
    problems: Mapping[str, int]
    keys: tuple[str, ...]

    @property
    def undecodable(self) -> int:
        """How many entries of the sample can't be decoded."""
        return sum(self.problems.values())


@dataclass(frozen=True)
class Inventory:
    """What is in a Redis.

    Attributes:
        servers: the addresses of the servers.
        models: the entries of each version of each model.
        foreign: how many keys are neither an entry's, nor a generation or counts.
        missing_rules: ACL rules that the login lacks to read the rest.
    """

    servers: tuple[str, ...]
    models: tuple[ModelEntries, ...]
    foreign: int
    missing_rules: tuple[str, ...]


@dataclass(frozen=True)
class OneEntry:
    """One entry, decoded without its schema."""

    key: str
    prefix: str | None
    model: str
    version: str
    digest: str
    value_bytes: int
    bytes: int | None
    ttl_ms: TimeLeft
    is_stale: bool
    layout: Layout
    entry: Description
    missing_rules: tuple[str, ...]


class _RawEntry(NamedTuple):
    """What the server says about one entry; `entry` is its error if it gave none."""

    key: bytes
    entry: bytes | Exception
    ttl: TimeLeft
    bytes: int | None
    layout: Layout


class _Sample:
    """A random sample of a stream of keys, each as likely as any other."""

    def __init__(self, size: int) -> None:
        self.seen = 0
        self.keys: list[tuple[str, Located]] = []
        self._size = size

    def add(self, address: str, key: Located) -> None:
        self.seen += 1
        if len(self.keys) < self._size:
            self.keys.append((address, key))
        elif (number := random.randrange(self.seen)) < self._size:
            self.keys[number] = (address, key)


_Parts: TypeAlias = tuple[str | None, str, str]


class Reader:
    """Reads entries from servers, named by their addresses.

    Args:
        servers: the servers by address.
        timeout: seconds that each round trip may take.
        tag_key: checks the tags of entries.
        cipher: decrypts entries.
    """

    def __init__(
        self,
        servers: Mapping[str, RedisStore],
        timeout: float,
        tag_key: bytes = b"",
        cipher: Cipher | None = None,
    ) -> None:
        self._servers = servers
        self._timeout = timeout
        self._tag_key = tag_key
        self._cipher = cipher
        self._missing_rules: set[str] = set()

    def take_inventory(
        self,
        wanted: Callable[[EntryKey], bool],
        *,
        sample: int = 1000,
        keys: int = 0,
        tell: Callable[[int], None] = lambda _: None,
    ) -> Inventory:
        """Return the wanted entries; of each version, read a `sample` and list some `keys` of it.

        Raises:
            ConfigurationError: a proxy can't list keys.
            StoreUnavailableError: Redis failed.
        """
        samples: dict[_Parts, _Sample] = {}
        foreign = 0
        for seen, (address, found) in enumerate(self._scan(), 1):
            parsed = parse_key(found.key)
            if parsed is None:
                is_known = is_generation(found.key) or parse_statistics_key(found.key) is not None
                foreign += not is_known
            elif wanted(parsed):
                samples.setdefault(parsed[:3], _Sample(sample)).add(address, found)
            if seen % 1000 == 0:
                tell(seen)
        order = sorted(samples, key=lambda parts: tuple(part or "" for part in parts))
        models = tuple(self._summary(parts, samples[parts], keys) for parts in order)
        return Inventory(tuple(self._servers), models, foreign, self._rules())

    def look_up(self, key: str) -> OneEntry | None:
        """Return one entry; None if there is none under this key.

        Raises:
            ConfigurationError: the key does not have the form of an entry's.
            StoreUnavailableError: Redis failed.
        """
        raw = key.encode("utf-8", "surrogateescape")
        parsed = parse_key(raw)
        if parsed is None:
            raise ConfigurationError(
                "KEY",
                f"expected [prefix/]name/version/22 characters, got {key!r}; `model-cache inspect "
                "--keys 5` lists some",
            )
        for located in locations(self._servers.values(), raw, self._timeout):
            found = self._at_any_server(located)
            if found is None:
                continue
            described = self._described(found)
            return OneEntry(
                key,
                *parsed,
                value_bytes=len(found.entry) if isinstance(found.entry, bytes) else 0,
                bytes=found.bytes,
                ttl_ms=found.ttl,
                is_stale=_is_stale(described),
                layout=found.layout,
                entry=described,
                missing_rules=self._rules(),
            )
        return None

    def _rules(self) -> tuple[str, ...]:
        return tuple(sorted(self._missing_rules, reverse=True))  # keys (~) before commands (+)

    def _at_any_server(self, located: Located) -> _RawEntry | None:
        for server in self._servers.values():
            (found,) = self._ask(server, [located])
            if found is not None and getattr(found.entry, "code", None) not in ("MOVED", "ASK"):
                return found
        return None

    def _scan(self) -> Iterator[tuple[str, Located]]:
        for address, server in self._servers.items():
            for key in entries_at(server, self._timeout, self._missing_rules.add):
                yield address, key

    def _summary(self, parts: _Parts, sample: _Sample, keys: int) -> ModelEntries:
        found = list(self._read(sample.keys))
        described = [self._described(each) for each in found]
        sizes = [each.bytes for each in found]
        known = [each for each in sizes if each is not None]
        values = sum(len(each.entry) for each in found if isinstance(each.entry, bytes))
        # Entries that have expired, say, since the scan, do not count.
        entries = round(sample.seen * len(found) / len(sample.keys))
        scale = entries / len(found) if found else 0.0
        decoded = [each for each in described if each.problem is None]
        return ModelEntries(
            *parts,
            entries=entries,
            looked_at=len(found),
            bytes=round(sum(known) * scale) if len(known) == len(sizes) else None,
            value_bytes=round(values * scale),
            ttl=_times_left([each.ttl for each in found]),
            stale=sum(map(_is_stale, decoded)),
            serders=Counter(str(each.serder) for each in decoded),
            compressors=Counter(each.compressor or "none" for each in decoded),
            forms=Counter(str(each.form) for each in decoded),
            layouts=Counter(each.layout for each in found),
            encrypted=sum(each.encrypted for each in decoded),
            tags=Counter(each.tag for each in decoded),
            problems=Counter(str(each.problem) for each in described if each.problem),
            keys=tuple(each.key.decode("utf-8", "surrogateescape") for each in found[:keys]),
        )

    def _read(self, keys: Iterable[tuple[str, Located]]) -> Iterator[_RawEntry]:
        by_server: dict[str, list[Located]] = {}
        for address, key in keys:
            by_server.setdefault(address, []).append(key)
        for address, here in by_server.items():
            for start in range(0, len(here), _BATCH):
                batch = here[start : start + _BATCH]
                yield from filter(None, self._ask(self._servers[address], batch))

    def _ask(self, server: RedisStore, keys: Sequence[Located]) -> list[_RawEntry | None]:
        """Return what a server says about entries; None for one that does not exist."""
        commands: list[tuple[bytes, ...]] = []
        for key, place in keys:
            commands += (
                [(b"GET", key), (b"PTTL", key)]
                if place is None
                else [(b"HGET", *place), (b"HLEN", place.bucket)]
            )
            if not server.proxied:  # a proxy would close the connection
                commands.append((b"MEMORY", b"USAGE", key if place is None else place.bucket))
        replies = server.execute_many(self._timeout, commands)
        each = len(commands) // len(keys)
        return [
            self._raw_entry(located, *replies[n * each : (n + 1) * each])
            for n, located in enumerate(keys)
        ]

    def _raw_entry(
        self, located: Located, entry: Any, second: Any, memory: Any = None
    ) -> _RawEntry | None:
        for reply in (entry, second, memory):
            if isinstance(reply, Exception) and (
                rule := missing_rule(reply, _pattern(located.key))
            ):
                self._missing_rules.add(rule)
        usage = memory if isinstance(memory, int) else None
        if located.place is not None:
            return _packed_entry(located.key, entry, second, usage)
        if entry is None or second == -2:
            return None
        left: TimeLeft = (
            "unknown" if not isinstance(second, int) else None if second < 0 else second
        )
        return _RawEntry(located.key, entry, left, usage, "plain")

    def _described(self, found: _RawEntry) -> Description:
        if isinstance(found.entry, Exception):
            return Description(problem=str(found.entry).partition(" ")[0])
        return describe(found.key, found.entry, self._tag_key, self._cipher)


def _packed_entry(key: bytes, value: Any, size: Any, memory: int | None) -> _RawEntry | None:
    """Return a packed entry, with its share of its bucket's memory; None if it has ended."""
    if not isinstance(value, bytes):
        return None if value is None else _RawEntry(key, value, "unknown", None, "packed")
    entry, end = taken_apart(value) or (b"", None)
    left = None if end is None else round(end - 1000 * time.time())
    if (left is not None and left <= 0) or is_reference(entry):
        return None
    share = memory // size if memory is not None and isinstance(size, int) and size else None
    return _RawEntry(key, entry, left, share, "packed")


def _pattern(key: bytes) -> str:
    """Return the pattern of the keys of a key's model, as in an ACL rule."""
    parsed = parse_key(key)
    assert parsed is not None
    return Namespace(*parsed[:3]).text.removesuffix("/").rpartition("/")[0] + "/*"


def _is_stale(described: Description) -> bool:
    until = described.fresh_until
    return until is not None and 1000 * time.time() >= until


def _times_left(times: Sequence[TimeLeft]) -> TimesLeft:
    known = [each for each in times if each != "unknown"]
    limited = [each for each in known if isinstance(each, int)]
    return TimesLeft(
        known=len(known),
        without_ttl=(len(known) - len(limited)) / len(known) if known else 0.0,
        least=min(limited, default=None),
        median=round(statistics.median(limited)) if limited else None,
        most=max(limited, default=None),
    )
