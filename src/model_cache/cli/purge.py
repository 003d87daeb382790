"""`purge`: deletes the entries of a model, those of this library's form and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """

    prefix: str | None
    model: str
    versions: Mapping[str, int]
    keys: tuple[bytes, ...] = field(repr=False)


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
    return Plan(prefix, model, dict(sorted(versions.items())), tuple(keys))
