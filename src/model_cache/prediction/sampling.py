"""Which hits are verified: the first ones of a binding, and then a share of all."""

from __future__ import annotations

import math
from collections.abc import Callable


class Sample:
    """Takes the first hits and then each hit with the same probability.

    It counts down to the next one, so that a hit that is not taken costs a subtraction. Threads
    may share it: a lost count does no harm.

    Args:
        share: the probability, from 0 to 1.
        first: how many hits to take at the beginning.
        draw: returns a random number from 0 up to 1.

    Attributes:
        left: how many hits to leave out before the next one.
    """

    __slots__ = ("_draw", "_first", "_first_of_all", "_share", "left")

    def __init__(self, share: float, first: int, draw: Callable[[], float]) -> None:
        self._share = share
        self._first_of_all = first
        self._draw = draw
        self.start_over()

    def start_over(self) -> None:
        """Take the first hits again, and then the share."""
        self._first = self._first_of_all
        self.left = 0.0 if self._first else self._gap()

    def spares(self) -> bool:
        """Return whether the next hit is left out, and count it then."""
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def takes(self) -> bool:
        """Return whether the next hit is taken."""
        if self.spares():
            return False
        self._first = max(0, self._first - 1)
        self.left = 0.0 if self._first else self._gap()
        return True

    def among(self, hits: int) -> list[int]:
        """Return which of the next hits are taken, by number."""
        taken, place = [], 0
        while place + self.left < hits:
            place += int(self.left)
            self.left = 0.0
            self.takes()
            taken.append(place)
            place += 1
        self.left -= hits - place
        return taken

    def _gap(self) -> float:
        """Return how many hits there are before the next one: a geometric distribution."""
        if self._share <= 0:
            return math.inf
        if self._share >= 1:
            return 0.0
        return math.floor(math.log1p(-self._draw()) / math.log1p(-self._share))
