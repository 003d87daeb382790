"""No fault fails a prediction or makes one wrong, and each costs only a bounded time.

In its short form, with generous bounds, since whatever runs the tests may be busy, and with few of
the rows for event loops; with FAULTS=long, as `make faults` does, all rows, at length and with the
bounds as promised.
"""

from __future__ import annotations

import os
import threading
import time

import pytest

from model_cache import RedisCachingDecorator
from tests.faults.load import Load, LoadModel, Row, Run, Tally, wait_until
from tests.faults.matrix import ROWS, SLACK, TIMEOUT, broken_promises, run_row
from tests.faults.proxy import fault_proxy
from tests.faults.stalls import Stalls
from tests.servers import running_server

LONG = os.environ.get("FAULTS") == "long"
SECONDS, GENEROUSLY = (2.0, 0.0) if LONG else (0.4, 1.5)


def name(row: Row) -> str:
    return f"{row.topology}: {row.fault}{f', {row.tasks} tasks' if row.tasks else ''}"


@pytest.mark.parametrize("row", [row for row in ROWS if LONG or row.in_short], ids=name)
def test_no_fault_fails_a_prediction(row: Row) -> None:
    assert not broken_promises(row, run_row(row, SECONDS), GENEROUSLY)


def test_callers_that_share_a_prediction_do_not_wait_for_its_write() -> None:
    with running_server() as server, fault_proxy(server.port) as proxy:
        model = LoadModel(seconds=0.01)
        decorator = RedisCachingDecorator(url=proxy.url)
        with (
            Run(0.0).load(decorator, threads=0, model=model, warm=False) as load,
            Stalls() as stalls,
        ):
            for number in range(2):  # a connection each
                start_predicting(load, number, load.tally())
            wait_until(lambda: decorator.stats().stored == 2, "there are connections")
            slow, quick = load.tally(), load.tally()
            proxy.delays(replies=0.09)
            first = start_predicting(load, 5, slow)
            time.sleep(0.08)  # its look-up takes nearly all of its time-out
            proxy.passes()
            second = start_predicting(load, 5, quick)  # it leads: its look-up is quick
            time.sleep(0.005)
            proxy.delays(replies=0.09)  # its write is slow
            first.join()
            second.join()
        # The other's time in the model is not the store's either.
        most = TIMEOUT + SLACK + stalls.longest + 0.01
        assert slow.worst < most
        assert quick.worst < most


def start_predicting(load: Load, number: int, tally: Tally) -> threading.Thread:
    thread = threading.Thread(target=load.predict, args=(tally, number))
    thread.start()
    return thread
