"""The counts of a fleet in Redis: one hash for each version of a model, beside its entries.

Each process adds what it has counted. All values are whole numbers, times in microseconds, so that
one command adds to any of them. Who sends and who reads them is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

from model_cache.keys.key import Namespace, parse_namespace
from model_cache.observing.counters import COUNTS, Stats

_NAME = b"stats"
_MICRO = 1_000_000
_FIELDS = {
    name: (name.replace("_seconds", "_us") if name.endswith("_seconds") else name).encode()
    for name in COUNTS
}


def statistics_key(namespace: Namespace) -> bytes:
    """Return the key of a namespace's hash."""
    return namespace.raw + _NAME


PATTERN = b"*/" + _NAME
"""A glob for the keys of hashes; filter its matches with `parse_statistics_key`."""


def parse_statistics_key(key: bytes) -> tuple[str | None, str, str] | None:
    """Return the prefix, name and version of a hash; None if the key is none of a hash."""
    head, _, name = key.rpartition(b"/")
    return parse_namespace(head) if name == _NAME else None


def amounts(stats: Stats) -> dict[bytes, int]:
    """Return counts as the fields of a hash."""
    return {
        field: round(getattr(stats, name) * (_MICRO if name.endswith("_seconds") else 1))
        for name, field in _FIELDS.items()
    }


def added(now: Mapping[bytes, int], before: Mapping[bytes, int]) -> dict[bytes, int]:
    """Return what has been added since."""
    return {
        field: amount - before.get(field, 0)
        for field, amount in now.items()
        if amount != before.get(field, 0)
    }


def counts(found: Mapping[bytes, bytes]) -> Stats:
    """Return the counts in a hash; fields that are missing, or not numbers, are zero."""
    values = {name: _number(found.get(field)) for name, field in _FIELDS.items()}
    return Stats(
        **{
            name: value / _MICRO if name.endswith("_seconds") else value
            for name, value in values.items()
        }  # type: ignore[arg-type]
    )


def _number(text: bytes | None) -> int:
    # Redis is untrusted: an int() of many digits takes long.
    return max(0, int(text)) if text and len(text) < 20 and text.isdigit() else 0
