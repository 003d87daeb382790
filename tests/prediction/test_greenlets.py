"""Predictions in the greenlets of gevent, patched before and after model_cache was imported.

gunicorn's gevent workers with `--preload` patch after it: the application is imported, then the
worker is forked, and then it is patched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import IMPORTS, REPOSITORY
from tests.servers import Server

PATCH = "from gevent import monkey; monkey.patch_all()\n"
MODEL = """
import json, os, sys, time
from model_cache import RedisCachingDecorator
from tests.models import Charges, FunctionModel, person

calls = []

def slow(data):
    calls.append(data.age)
    time.sleep(0.5)
    return Charges(charges=100.0 * data.age)

options = json.loads(sys.argv[1])
cache = RedisCachingDecorator(timeout=5.0, **options).set_model(FunctionModel(function=slow))
"""
FORK = """
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
CROWD = """
import gevent

turns = []  # and in each, whether requests were written

def count_turns():
    while True:
        turns.append(os.path.exists(options.get("record", "")))
        time.sleep(0.001)

counting = gevent.spawn(count_turns)
ages = [20 + number % 5 for number in range(40)]
crowd = [gevent.spawn(cache.predict, person(age=age)) for age in ages]
gevent.joinall(crowd, raise_error=True)
assert [each.value.charges for each in crowd] == [100.0 * age for age in ages]
others_ran = len(turns)
time.sleep(0.05)  # the thread for background work waits for more
is_waiting = cache._backend.workers["write"]._worker is not None
counting.kill()
cache.close()
stats = cache.stats()
print(json.dumps({
    "calls": sorted(calls), "turns": others_ran, "waiting": is_waiting, "stored": stats.stored,
    "unavailable": stats.unavailable, "write_failures": stats.write_failures,
    "recorded": stats.recorded, "turns_before": turns.count(False),
}))
sys.stdout.flush()
os._exit(0)
"""
ORDERS = {
    "patched first": PATCH + MODEL + CROWD,
    "patched after the import": MODEL + PATCH + CROWD,
    "patched after a fork": MODEL + FORK + PATCH + CROWD,
}


def run(code: str, server: Server, **options: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps({"url": server.url, **options})],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": IMPORTS},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("order", ORDERS)
def test_greenlets_share_predictions_and_do_not_stop_each_other(order: str, server: Server) -> None:
    seen = run(ORDERS[order], server, write="background")
    assert seen["calls"] == [20, 21, 22, 23, 24]
    assert (seen["stored"], seen["unavailable"], seen["write_failures"]) == (5, 0, 0)
    assert seen["waiting"]  # others had their turn before it gave up waiting


def test_a_lease_does_not_stop_greenlets_either(server: Server) -> None:
    seen = run(ORDERS["patched after a fork"], server, single_flight="fleet")
    assert seen["calls"] == [20, 21, 22, 23, 24]
    assert (seen["stored"], seen["unavailable"], seen["write_failures"]) == (5, 0, 0)
    assert seen["turns"] > 60  # of about 500 while the model runs; 15 if the renewal blocks


def test_recording_does_not_stop_greenlets_either(server: Server, tmp_path: Path) -> None:
    seen = run(ORDERS["patched after a fork"], server, record=str(tmp_path / "requests"))
    assert seen["recorded"] == 40
    assert seen["turns_before"] > 60  # of about 500; 1 if the thread blocks while it waits
