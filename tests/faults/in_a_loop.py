"""The same faults for the tasks of an event loop, and those that only they know.

Packets that are lost for good on a connection that goes on are no fault of TCP; threads can be
tested by them, since a connection of theirs is closed after a time-out. Signal handlers and the
size of the pool have no counterpart here.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import replace

from tests.faults import in_company, one_server
from tests.faults.load import INPUTS, AsyncLoad, Row, Run
from tests.faults.one_server import load_on_server

_TASKS = 50
_NOT_HERE = (
    one_server.packets_dropped,
    one_server.interrupted_by_a_signal_handler,
    one_server.soft_time_limits,
    one_server.pool_exhausted,
)
_IN_COMPANY = (
    in_company.primary_killed,
    in_company.primary_frozen,
    in_company.slots_moved,
    in_company.failed_over,
    in_company.proxy_restarted,
)


def cancelled_at_random(run: Run) -> None:
    with load_on_server(run) as (_, load):
        assert isinstance(load, AsyncLoad)
        load.cancelled_share = 0.8
        run.lasts()
        load.cancelled_share = 0.0
        assert load.cancelled > 100
        run.recovers(load)


def cancelled_while_entries_come_and_go(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        assert isinstance(load, AsyncLoad)
        load.cancelled_share = 0.5
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            client.flushall()
            time.sleep(0.005)
        load.cancelled_share = 0.0
        run.recovers(load)


def connections_killed(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(random.random() * 0.01)
        run.recovers(load)


def another_loop_closed_under_load(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        end = time.monotonic() + run.seconds

        def short_lived() -> None:
            loop = asyncio.new_event_loop()
            asked = [load.decorator.apredict(data) for data in INPUTS]
            tasks = [loop.create_task(each) for each in asked]
            loop.run_until_complete(asyncio.sleep(random.random() * 0.005))
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()

        while time.monotonic() < end:
            client.flushall()  # so that it leads flights
            thread = threading.Thread(target=short_lived)
            thread.start()
            thread.join()
        run.recovers(load)


_ONE = one_server.ONE
_ALL = (
    *(row for row in one_server.ROWS if row.happen not in _NOT_HERE),
    *(row for row in in_company.ROWS if row.happen in _IN_COMPANY),
    Row("cancelled at random", _ONE, cancelled_at_random),
    Row("cancelled, FLUSHALL", _ONE, cancelled_while_entries_come_and_go),
    Row("connections killed", _ONE, connections_killed),
    Row("another loop closed", _ONE, another_loop_closed_under_load),
)
# One of each kind; `make faults` runs all.
_IN_SHORT = (
    one_server.frozen,
    one_server.cut_in_the_middle_of_a_reply,
    one_server.loading,
    one_server.name_without_address,
    cancelled_at_random,
    connections_killed,
    another_loop_closed_under_load,
)
ROWS = tuple(replace(row, tasks=_TASKS, in_short=row.happen in _IN_SHORT) for row in _ALL)
