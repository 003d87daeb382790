"""Many concurrent threads, and a model slow enough for them to overlap."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.models import Charges, Person, charge


def all_at_once(count: int, function: Any) -> list[Any]:
    ready = threading.Barrier(count)

    def run(number: int) -> Any:
        ready.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def slow(data: Person) -> Charges:
    time.sleep(0.2)  # the model's own time
    return charge(data)
