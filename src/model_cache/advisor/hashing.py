"""The keys of all requests under a choice of options, as hashes, and how often they repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from model_cache.advisor.columns import Array, Column, Hashes
from model_cache.advisor.estimates import Z
from model_cache.advisor.findings import Estimate
from model_cache.advisor.log import Log
from model_cache.advisor.sample import Sample


class Keys:
    """The keys of a log's requests.

    Args:
        log: the log.
        tables: the rounded values of a column, by path and places.
    """

    def __init__(self, log: Log, tables: Callable[[Column, int], Array]) -> None:
        self.sample = log.sample
        self._columns = {column.path: column for column in log.columns}
        self._tables = tables
        self._exact = np.zeros(len(log), np.uint64)
        for column in log.columns:
            self._exact += column.hashes()

    def of(self, places: Mapping[str, int], ignored: Sequence[str]) -> Hashes:
        """Return the hash of each request's key, in order."""
        total = self._exact.copy()
        for path in {*places, *ignored}:
            column = self._columns[path]
            total -= column.hashes()
            if path not in ignored:
                total += column.hashes(self._tables(column, places[path]))
        return total


def hit_ratio(keys: Hashes, most: int, sample: Sample) -> Estimate:
    """Return the hit ratio of a cache that never evicts, which is empty at first.

    Args:
        keys: the key of each request.
        most: about how many requests to look at.
        sample: how the requests were chosen.
    """
    places, rate = sample.taken(keys, most)
    ordered = np.sort(keys[places])  # several times as fast as numpy.unique
    found = int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(len(ordered))
    return ratio_of_misses(found, found, rate, sample.requests)


def ratio_of_misses(misses: int, keys: int, rate: float, requests: int) -> Estimate:
    """Return a hit ratio from the misses in a sample of keys.

    Misses are counted, and not hits, because few keys have many misses: popular keys make many
    hits, so a ratio of hits would depend on whether they are in the sample.

    Args:
        misses: the misses of the sampled keys.
        keys: how many keys were sampled.
        rate: the share of keys that was sampled.
        requests: how many requests there were, sampled or not.
    """
    value = 1.0 - misses / rate / requests
    # The number of misses of a key is at least 1, and seldom far from its mean.
    each = misses / keys if keys else 1.0
    margin = Z * each * float(np.sqrt(keys * (1.0 - rate))) / rate / requests
    return Estimate(min(1.0, max(0.0, value)), max(0.0, value - margin), min(1.0, value + margin))


def rounded_table(column: Column, places: int) -> Array:
    """Return the values of a column, rounded as the library rounds them."""
    table = column.table
    if column.codes is None:
        # So many values that rounding by decimal arithmetic would take long. The two differ about
        # some numbers half-way between two neighbours.
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.round(table, places) + 0.0
        return np.where(np.isfinite(table) & np.isfinite(found), found, table)
    finite = np.where(np.isfinite(table), table, 0.0)
    rounded = [round(value, places) + 0.0 for value in finite.tolist()]
    return np.where(np.isfinite(table), np.array(rounded, np.float64), table)
