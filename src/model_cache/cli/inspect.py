"""`inspect`: which models are in a Redis, and what one key holds. It reads, and nothing else."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from model_cache.describe import Description, describe
from model_cache.errors import ConfigurationError
from model_cache.keys import EntryKey, parse_key
from model_cache.stores.redis import RedisStore

Servers: TypeAlias = Mapping[str, RedisStore]
TimeLeft: TypeAlias = int | Literal["unknown"] | None
"""Milliseconds; None for until evicted, "unknown" if the server won't tell."""

# So many entries at once: each may take a megabyte, or more.
_AT_ONCE = 20


@dataclass(frozen=True)
class TimesLeft:
    """How long the entries looked at have to live, in milliseconds.

    Attributes:
        known: of how many the server says so.
        without_ttl: the share of these that live until they are evicted.
        least: of those with a ttl; None if there are none.
        median: likewise.
        most: likewise.
    """

    known: int
    without_ttl: float
    least: int | None
    median: int | None
    most: int | None


@dataclass(frozen=True)
class ModelEntries:
    """The entries of one version of one model.

    Attributes:
        prefix: theirs; None for none.
        model: the qualified name.
        version: the model's.
        entries: how many there are.
        looked_at: how many of them the rest is about; drawn at random if not all.
        bytes: memory, all in all, keys included; an estimate if not all were looked at; None
            if the server won't tell.
        value_bytes: likewise, of the values alone.
        ttl: how long they have to live.
        stale: how many of those looked at are past their time, kept for `stale_if_error`.
        serders: how many of those looked at were written with which.
        compressors: likewise; "none" for those that are not compressed.
        forms: how many are "plain", and how many in an "envelope".
        tags: how many have a tag that is "right", a "wrong" one, or "none".
        problems: why entries can't be decoded, and how many.
        keys: some of those looked at, as many as were asked for.
    """

    prefix: str | None
    model: str
    version: str
    entries: int
    looked_at: int
    bytes: int | None
    value_bytes: int
    ttl: TimesLeft
    stale: int
    serders: Mapping[str, int]
    compressors: Mapping[str, int]
    forms: Mapping[str, int]
    tags: Mapping[str, int]
    problems: Mapping[str, int]
    keys: tuple[str, ...]

    @property
    def undecodable(self) -> int:
        """How many of those looked at can't be decoded."""
        return sum(self.problems.values())


@dataclass(frozen=True)
class Inventory:
    """What is in a Redis.

    Attributes:
        servers: which were asked.
        models: what there is of each version of each model.
        foreign: how many keys are not of the form of this library's entries.
    """

    servers: tuple[str, ...]
    models: tuple[ModelEntries, ...]
    foreign: int


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
    entry: Description


class _Found(NamedTuple):
    """What the server says of one key; `entry` is its error if it gave none."""

    key: bytes
    entry: bytes | Exception
    ttl: TimeLeft
    bytes: int | None


class _Sample:
    """Some keys of a stream that may be long, each as likely as any other."""

    def __init__(self, size: int) -> None:
        self.seen = 0
        self.keys: list[tuple[str, bytes]] = []
        self._size = size

    def add(self, place: str, key: bytes) -> None:
        self.seen += 1
        if len(self.keys) < self._size:
            self.keys.append((place, key))
        elif (number := random.randrange(self.seen)) < self._size:
            self.keys[number] = (place, key)


def take_inventory(
    servers: Servers,
    timeout: float,
    wanted: Callable[[EntryKey], bool],
    *,
    sample: int = 1000,
    keys: int = 0,
    tag_key: bytes = b"",
    tell: Callable[[int], None] = lambda _: None,
) -> Inventory:
    """Return what is in a Redis.

    Args:
        servers: those to ask.
        timeout: seconds for each round trip.
        wanted: which entries to report.
        sample: how many entries of each version of a model to look at.
        keys: how many of them to name.
        tag_key: keys the tags.
        tell: is told how many keys have been seen so far.

    Raises:
        ConfigurationError: a proxy is in between, which can't list keys.
        StoreUnavailableError: Redis failed.
    """
    samples: dict[tuple[str | None, str, str], _Sample] = {}
    seen = foreign = 0
    for place, server in servers.items():
        for key in server.scan(b"*", timeout):
            parsed = parse_key(key)
            if parsed is None:
                foreign += 1
            elif wanted(parsed):
                samples.setdefault(parsed[:3], _Sample(sample)).add(place, key)
            seen += 1
            if seen % 1000 == 0:
                tell(seen)
    order = sorted(samples, key=lambda parts: tuple(part or "" for part in parts))
    models = tuple(
        _summary(parts, samples[parts], servers, timeout, keys, tag_key) for parts in order
    )
    return Inventory(tuple(servers), models, foreign)


def _summary(
    parts: tuple[str | None, str, str],
    sample: _Sample,
    servers: Servers,
    timeout: float,
    keys: int,
    tag_key: bytes,
) -> ModelEntries:
    found = list(_look_at(sample.keys, servers, timeout))
    described = [_described(each, tag_key) for each in found]
    sizes = [each.bytes for each in found]
    known = [each for each in sizes if each is not None]
    values = sum(len(each.entry) for each in found if isinstance(each.entry, bytes))
    # What expired meanwhile is not there any more.
    entries = sample.seen - (len(sample.keys) - len(found))
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
        tags=Counter(each.tag for each in decoded),
        problems=Counter(str(each.problem) for each in described if each.problem),
        keys=tuple(each.key.decode("utf-8", "surrogateescape") for each in found[:keys]),
    )


def _look_at(
    keys: Sequence[tuple[str, bytes]], servers: Servers, timeout: float
) -> Iterator[_Found]:
    for place, server in servers.items():
        here = [key for at, key in keys if at == place]
        for start in range(0, len(here), _AT_ONCE):
            batch = here[start : start + _AT_ONCE]
            yield from filter(None, _ask(server, batch, timeout))


def _ask(server: RedisStore, keys: Sequence[bytes], timeout: float) -> list[_Found | None]:
    """Return what a server says of keys; None for one that is not there."""
    commands: list[tuple[bytes, ...]] = []
    for key in keys:
        commands += [(b"GET", key), (b"PTTL", key)]
        if not server.proxied:  # a proxy would close the connection
            commands.append((b"MEMORY", b"USAGE", key))
    replies = server.execute_many(timeout, commands)
    each = len(commands) // len(keys)
    return [_found(key, *replies[n * each : (n + 1) * each]) for n, key in enumerate(keys)]


def _found(key: bytes, entry: Any, ttl: Any, memory: Any = None) -> _Found | None:
    if entry is None or ttl == -2:
        return None
    left: TimeLeft = "unknown" if not isinstance(ttl, int) else None if ttl < 0 else ttl
    return _Found(key, entry, left, memory if isinstance(memory, int) else None)


def _described(found: _Found, tag_key: bytes) -> Description:
    if isinstance(found.entry, Exception):
        return Description(problem=str(found.entry).partition(" ")[0])
    return describe(found.key, found.entry, tag_key)


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


def look_up(servers: Servers, key: str, timeout: float, tag_key: bytes = b"") -> OneEntry | None:
    """Return one entry; None if there is none under this key.

    Raises:
        ConfigurationError: the key has not the form of an entry's.
        StoreUnavailableError: Redis failed.
    """
    raw = key.encode("utf-8", "surrogateescape")
    parsed = parse_key(raw)
    if parsed is None:
        raise ConfigurationError(
            "KEY", f"{key!r} is no key of an entry: [prefix/]name/version/22 characters"
        )
    for server in servers.values():
        (found,) = _ask(server, [raw], timeout)
        if found is None or getattr(found.entry, "code", None) in ("MOVED", "ASK"):
            continue
        described = _described(found, tag_key)
        return OneEntry(
            key,
            *parsed,
            value_bytes=len(found.entry) if isinstance(found.entry, bytes) else 0,
            bytes=found.bytes,
            ttl_ms=found.ttl,
            is_stale=_is_stale(described),
            entry=described,
        )
    return None
