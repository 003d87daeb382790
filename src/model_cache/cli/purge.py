"""`purge`: deletes the entries of a model, and only keys that have the form of an entry's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from model_cache.cli.wanted import instead
from model_cache.errors import ConfigurationError, did_you_mean
from model_cache.keys.buckets import is_bucket, parse_bucket
from model_cache.keys.key import EntryKey, Namespace, entries_pattern, parse_key
from model_cache.prediction.generation import Generation, new_value
from model_cache.protocols import Store
from model_cache.stores.purging import delete_all
from model_cache.words import count, entry_count

_BATCH = 500


@dataclass(frozen=True)
class Selection:
    """Which entries of a model to delete.

    Attributes:
        model: the qualified name.
        prefix: the prefix of the keys; None for keys without one.
        all_prefixes: whether to ignore `prefix` and take the keys with and without one.
        version: the model's version; None for all versions.
        all_but: versions to leave alone.
    """

    model: str
    prefix: str | None = None
    all_prefixes: bool = False
    version: str | None = None
    all_but: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.all_prefixes and self.prefix is not None:
            raise ConfigurationError("--all-prefixes", "can't be combined with --prefix")
        if self.all_but and self.version is not None:
            raise ConfigurationError("--all-but", "can't be combined with --version")

    @property
    def pattern(self) -> bytes:
        """A glob that matches the keys of the model, and possibly others."""
        if self.all_prefixes:
            return b"*" + entries_pattern(None, self.model, self.version)
        return entries_pattern(self.prefix, self.model, self.version)

    def is_model(self, key: EntryKey) -> bool:
        """Return whether a key belongs to the model, in any of its versions."""
        return key.qualified_name == self.model and self.is_prefix(key.prefix)

    def is_prefix(self, prefix: str | None) -> bool:
        """Return whether to delete the entries under a prefix, or without one."""
        return self.all_prefixes or prefix == self.prefix

    def is_version(self, version: str) -> bool:
        """Return whether to delete the entries of a version."""
        return self.version in (None, version) and version not in self.all_but


@dataclass(frozen=True)
class Group:
    """What there is of one version under one prefix.

    Attributes:
        prefix: the prefix of the keys; None for none.
        version: the model's version.
        entries: how many entries have a key of their own.
        buckets: how many hashes of packed entries there are.
    """

    prefix: str | None
    version: str
    entries: int
    buckets: int = 0


@dataclass(frozen=True)
class Plan:
    """What a purge would delete.

    Attributes:
        groups: the entries by prefix and version.
        keys: their keys.
        hint: what there is instead, if there are none.
    """

    groups: tuple[Group, ...]
    keys: tuple[bytes, ...] = field(repr=False)
    hint: str = ""


def plan(store: Store, timeout: float, selection: Selection) -> Plan:
    """Return what to delete.

    Raises:
        ConfigurationError: a proxy can't list keys; or a version to leave alone has no entries.
        StoreUnavailableError: Redis failed.
    """
    keys: list[bytes] = []
    there: Counter[tuple[str | None, str]] = Counter()
    buckets: Counter[tuple[str | None, str]] = Counter()
    for key in store.scan(selection.pattern, timeout):
        parsed = _parse(key)
        if parsed is None or not selection.is_model(parsed):
            continue  # a `*` in the pattern matches several parts
        there[parsed.prefix, parsed.version] += 1
        buckets[parsed.prefix, parsed.version] += is_bucket(key)
        if selection.is_version(parsed.version):
            keys.append(key)
    _check_spelling(selection.all_but, {version for _, version in there})
    groups = (
        Group(*parts, number - buckets[parts], buckets[parts])
        for parts, number in sorted(there.items(), key=lambda each: (each[0][0] or "", each[0][1]))
        if selection.is_version(parts[1])
    )
    hint = "" if keys else _hint(store, timeout, selection)
    return Plan(tuple(groups), tuple(keys), hint)


def _parse(key: bytes) -> EntryKey | None:
    """Take the key of an entry apart, or that of a bucket, which has no digest."""
    bucket = parse_bucket(key)
    return parse_key(key) if bucket is None else EntryKey(*bucket[:3], digest="")


def _check_spelling(all_but: Collection[str], versions: set[str]) -> None:
    """Raise if a version to leave alone has no entries: with a typo, everything would go."""
    for version in all_but:
        if versions and version not in versions:
            raise ConfigurationError(
                "--all-but",
                f"version {version!r} has no entries; {did_you_mean(version, versions)}; "
                "to delete all versions, leave the option out",
            )


def _hint(store: Store, timeout: float, selection: Selection) -> str:
    """Return which entries may have been meant."""
    there = (parsed[:3] for parsed in map(_parse, store.scan(b"*", timeout)) if parsed)
    return instead(there, selection.model, selection.is_prefix)


def begin_generations(store: Store, planned: Plan, model: str, timeout: float) -> None:
    """Tell running services about the purge, as `purge()` of the decorator does.

    Raises:
        StoreUnavailableError: Redis failed; its kind is "OOM" if Redis is full.
    """
    for group in planned.groups:
        generation = Generation(Namespace(group.prefix, model, group.version))
        store.set(generation.key, new_value(), None, timeout)


def delete(
    store: Store,
    keys: Sequence[bytes],
    timeout: float,
    say: Callable[[str], None],
    tell: Callable[[int], None] = lambda _: None,
) -> int:
    """Delete entries and return how many existed; if interrupted, report how many were deleted.

    Raises:
        StoreUnavailableError: Redis failed; some entries may be left.
    """
    deleted = 0
    try:
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            deleted += delete_all(store, batch, timeout)
            tell(start + len(batch))
    except BaseException:
        # The server may also have deleted the current batch.
        packs = any(map(is_bucket, keys))
        number = len(keys)
        of = f"entries, of {count(number, 'key')}" if packs else f"of {entry_count(number)}"
        say(f"stopped after deleting at least {deleted:,} {of}")
        raise
    return deleted
