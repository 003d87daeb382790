"""Logs that contain a sample of the traffic: all requests of a share of the keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_cache.advisor.columns import Array, Hashes

ALL = 2**64


@dataclass
class Recorded:
    """A summary of the files that the option `record` wrote.

    Attributes:
        share: the share of the keys whose requests were recorded.
        left_out: the paths of the fields that were not recorded.
        requests: how many requests there were.
        dropped: how many sampled requests were not written in time.
        unrecordable: how many sampled requests could not be written as JSON.
    """

    share: float = 1.0
    left_out: tuple[str, ...] = ()
    requests: int = 0
    dropped: int = 0
    unrecordable: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """How the requests of a log were chosen.

    Attributes:
        share: the share of the keys whose requests are in the log; 1.0 for all.
        requests: how many requests there were, in the log or not.
        units: the sampled key of each request in the log; None if all were recorded.
    """

    share: float
    requests: int
    units: Hashes | None

    def taken(self, keys: Hashes, most: int) -> tuple[Array, float]:
        """Return the positions of a sample of requests, and the share of all keys in the sample.

        The sample has all requests of a key, or none (SHARDS: Waldspurger et al., FAST 2015), so
        that the reuse of the key is preserved.

        Args:
            keys: the key of each request in the log, under some choice of options.
            most: about how many requests to take.
        """
        places, rate = np.arange(len(keys)), 1.0
        if len(keys) > most:
            rate = most / len(keys)
            places = np.flatnonzero(keys < np.uint64(int(rate * ALL)))
        if self.units is not None and len(places):
            rate *= coverage(keys[places], self.units[places], self.share)
        return places, rate


def coverage(keys: Hashes, units: Hashes, share: float) -> float:
    """Return the share of keys that have at least one request in a sample of units.

    If a choice rounds or ignores fields, several units have the same key, and the sample has more
    than `share` of the keys. The number of other keys is estimated from how many keys have one unit
    in the sample, and how many have two (Chao and Lin, 2012). If each key is one unit, the result
    is `share`.

    Args:
        keys: the key of each request.
        units: its unit.
        share: the share of the units in the sample.
    """
    if share >= 1.0:
        return 1.0
    order = np.lexsort((units, keys))
    ordered, inside = keys[order], units[order]
    is_new_key = np.r_[True, ordered[1:] != ordered[:-1]]
    is_new = is_new_key | np.r_[True, inside[1:] != inside[:-1]]
    starts = np.flatnonzero(is_new_key[is_new])
    sizes = np.diff(np.r_[starts, int(is_new.sum())])
    once, twice = int((sizes == 1).sum()), int((sizes == 2).sum())
    if not once:
        return 1.0
    unseen = once * once / (2 * twice + once * share / (1 - share))
    return len(sizes) / (len(sizes) + unseen)
