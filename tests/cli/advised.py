"""Models for the tests of `advise`."""

from __future__ import annotations

import json  # noqa: F401 - something that is no model
import sys
import time

from tests.advisor.logs import Score, Visit, VisitModel, score


def _work(data: Visit) -> Score:
    sum(range(20_000))  # a hit is quicker
    return score(data)


class SlowModel(VisitModel):
    """Takes longer than a hit."""

    def __init__(self) -> None:
        super().__init__(_work)


class SlowestModel(VisitModel):
    """Says when it is asked, and then takes so long that it can be interrupted."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self._said = False

    def _wait(self, data: Visit) -> Score:
        if not self._said:
            self._said = True
            print("ready", file=sys.stderr, flush=True)
        time.sleep(0.05)
        return score(data)
