"""A signal handler may raise or predict on any line that hands work to a background thread."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from model_cache.errors import StoreUnavailableError
from model_cache.observing.counters import Counters
from model_cache.prediction import recording
from model_cache.prediction.background import BackgroundWriter
from model_cache.prediction.lease import LeaseKeeper
from model_cache.protocols import Store
from tests.models import person
from tests.prediction.recordings import recorder
from tests.stores.test_interruptions import can_be_interrupted

# A signal that raises inside coverage leaves its lock held.
pytestmark = pytest.mark.no_cover

FILES = ("/model_cache/prediction/", "/model_cache/stores/threads.py", "/threading.py")


class SoftTimeLimit(Exception):
    pass


def handled_at_each_line(
    make: Callable[[], Callable[[], object]], handle: Callable[[Callable[[], object]], object]
) -> int:
    """Call what `make` makes, with a signal before each of its lines; return how many."""
    number = sent = arrived = 0
    while True:
        number += 1
        assert number < 5000, "the call does not end"
        lines, call = 0, make()

        def handler(signum: int, frame: FrameType | None) -> None:
            nonlocal sent
            sent += 1
            handle(call)  # noqa: B023

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal lines
            if not any(part in frame.f_code.co_filename for part in FILES):
                return None
            lines += event == "line"
            if event == "line" and lines == number and can_be_interrupted(frame):  # noqa: B023
                sys.settrace(None)
                handler(signal.SIGUSR1, frame)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        except SoftTimeLimit:
            arrived += 1
        finally:
            sys.settrace(before)
        if lines < number:
            assert handle is calling or arrived == sent, "an exception is lost"
            return sent


def raising(_: Callable[[], object]) -> None:
    raise SoftTimeLimit


def calling(call: Callable[[], object]) -> None:
    call()


def no_request(store: Store, timeout: float) -> None:
    raise StoreUnavailableError("no server", "connection")


def giving_back() -> Callable[[], object]:
    keeper = LeaseKeeper(None)  # type: ignore[arg-type]  # the request needs none
    return lambda: keeper.give_back(no_request)


def submitting() -> Callable[[], object]:
    writer = BackgroundWriter()
    return lambda: writer.submit(int)


@pytest.mark.parametrize("handle", [raising, calling])
@pytest.mark.parametrize("make", [giving_back, submitting])
def test_a_handler_neither_waits_for_ever_nor_loses_its_exception(
    make: Callable[[], Callable[[], object]], handle: Callable[[Callable[[], object]], object]
) -> None:
    assert handled_at_each_line(make, handle) > 5


@pytest.mark.parametrize("handle", [raising, calling])
def test_nor_does_recording_while_it_hurries_to_write(
    handle: Callable[[Callable[[], object]], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "MOST_WAITING", 4)

    def hurrying() -> Callable[[], object]:
        found = recorder(tmp_path, Counters(), interval=60.0)
        found.saw(person())
        found.saw(person())
        return lambda: found.saw(person())

    assert handled_at_each_line(hurrying, handle) > 20
