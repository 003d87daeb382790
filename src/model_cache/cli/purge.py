"""`purge`: deletes the entries of a model, those of this library's form and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from model_cache.errors import did_you_mean
from model_cache.keys import entries_pattern, parse_key
from model_cache.protocols import Store


@dataclass(frozen=True)
class Plan:
    """What a purge would delete.

    Attributes:
        prefix: of the entries; None for those without one.
        model: the qualified name.
        versions: how many entries there are of each version.
        keys: theirs.
        hint: what there is instead, if there are none.
    """

    prefix: str | None
    model: str
    versions: Mapping[str, int]
    keys: tuple[bytes, ...] = field(repr=False)
    hint: str = ""


def plan(store: Store, timeout: float, model: str, version: str | None, prefix: str | None) -> Plan:
    """Return what to delete.

    Args:
        store: where to look.
        timeout: seconds for each round trip.
        model: the qualified name.
        version: the model's; None for all.
        prefix: of the entries; None for those without one.

    Raises:
        ConfigurationError: a proxy is in between, which can't list keys.
        StoreUnavailableError: Redis failed.
    """
    keys: list[bytes] = []
    versions: Counter[str] = Counter()
    for key in store.scan(entries_pattern(prefix, model, version), timeout):
        parsed = parse_key(key)
        # A `*` of the pattern may stand for more than one part.
        if (
            parsed is not None
            and (parsed.prefix, parsed.qualified_name) == (prefix, model)
            and version in (None, parsed.version)
        ):
            keys.append(key)
            versions[parsed.version] += 1
    hint = "" if keys else _hint(store, timeout, model, prefix)
    return Plan(prefix, model, dict(sorted(versions.items())), tuple(keys), hint)


def _hint(store: Store, timeout: float, model: str, prefix: str | None) -> str:
    """Return where the entries are that may have been meant."""
    parsed = filter(None, map(parse_key, store.scan(b"*", timeout)))
    there = {(each.prefix, each.qualified_name, each.version) for each in parsed}
    if versions := sorted(each[2] for each in there if each[:2] == (prefix, model)):
        return f"it has versions {', '.join(map(repr, versions))}"
    if prefixes := {each[0] for each in there if each[1] == model}:
        named = sorted(repr(each) for each in prefixes if each is not None)
        given = [f"under prefix {', '.join(named)}"] if named else []
        return f"it has entries {' and '.join(given + ['without a prefix'] * (None in prefixes))}"
    return did_you_mean(model, {each[1] for each in there}) if there else "there are no entries"
