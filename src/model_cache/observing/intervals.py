"""How sure a share is that was counted in a sample."""

from __future__ import annotations

import math

_HALVINGS = 60
# The probability of finding that few if the share is higher than the bound.
_DOUBT = 0.05


def highest_share(found: int, looked_at: int) -> float:
    """Return the upper bound of a share, of which a sample has found some.

    The exact bound of Clopper and Pearson (Biometrika 26, 1934), one-sided: with none found in n,
    about 3 / n.

    Args:
        found: how many of the sample have the property.
        looked_at: the size of the sample.
    """
    if found >= looked_at:
        return 1.0
    low, high = found / looked_at, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_most(found, looked_at, middle) > _DOUBT:
            low = middle
        else:
            high = middle
    return high


def _at_most(found: int, looked_at: int, share: float) -> float:
    """Return the probability of finding at most so many."""
    if share >= 1.0:
        return 0.0
    odds = math.log(share) - math.log1p(-share) if share else -math.inf
    log = looked_at * math.log1p(-share)  # of the probability of finding none
    total = math.exp(log)
    for number in range(1, found + 1):
        log += odds + math.log(looked_at - number + 1) - math.log(number)
        total += math.exp(log)
    return total
