"""Whatever happens to the folder or its disk costs requests, and no prediction anything."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from model_cache import Cache
from model_cache.observing.counters import Counters
from model_cache.observing.events import Event, RequestsNotRecorded
from model_cache.prediction import recording
from tests.checkout import IMPORTS
from tests.models import charge, person
from tests.prediction.recordings import made, recorder, requests, total


def test_a_folder_that_can_not_be_written_is_one_warning_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []
    file = tmp_path / "file"
    file.touch()
    for folder in (tmp_path / "no" / "such" / "folder", file):
        caplog.clear()
        with (
            caplog.at_level(logging.WARNING, "model_cache"),
            made(folder, hooks=[heard.append]) as model,
        ):
            for age in range(5):
                assert model.predict(person(age=age)) == charge(person(age=age))
                model.close()
            assert (model.stats().recorded, model.stats().unrecorded) == (0, 5)
        assert len(caplog.messages) == 1
        assert "not recorded" in caplog.messages[0]
    events = [event for event in heard if isinstance(event, RequestsNotRecorded)]
    assert [event.folder for event in events] == [str(tmp_path / "no/such/folder"), str(file)]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a file's size")
def test_a_full_disk_costs_requests_and_no_prediction(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from tests.prediction.recordings import recorder, made
        from tests.models import person
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
        model = made(sys.argv[1])
        for age in range(100):
            model.predict(person(age=age))
        model.close()
        stats = model.stats()
        assert stats.unrecorded and stats.recorded + stats.unrecorded == 100, stats
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": IMPORTS},
        check=True,
        timeout=60,
    )
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 2_000


def test_a_disk_that_hangs_costs_requests_and_no_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MOST_WAITING", 10)
    counters, begun, released = Counters(), threading.Event(), threading.Event()
    found = recorder(tmp_path, counters, interval=0.001)
    write = found._log.write

    def hang(*arguments: Any) -> None:
        begun.set()
        assert released.wait(60)
        write(*arguments)

    monkeypatch.setattr(found._log, "write", hang)
    found.saw(person())
    assert begun.wait(60)
    for age in range(100):
        found.saw(person(age=age))
    released.set()
    found.flush()
    assert len(requests(tmp_path)) == 11
    assert total(tmp_path) == 101
    assert total(tmp_path, "dropped") == 90
    assert counters.snapshot("off").unrecorded == 90


def test_closing_does_not_wait_for_a_disk_that_hangs_or_write_beside_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_PATIENCE", 0.05)
    begun, released = threading.Event(), threading.Event()
    found = recorder(tmp_path, Counters(), interval=0.001)
    write, writers = found._log.write, []

    def hang(*arguments: Any) -> None:
        writers.append(threading.get_ident())
        begun.set()
        if len(writers) == 1:
            assert released.wait(60)
        write(*arguments)

    monkeypatch.setattr(found._log, "write", hang)
    found.saw(person(age=1))
    assert begun.wait(60)
    found.saw(person(age=2))
    found.flush()
    assert len(writers) == 1
    released.set()
    assert found._writer.flush(60.0)
    assert [each["age"] for each in requests(tmp_path)] == [1, 2]
    assert len(set(writers)) == 1


def test_bytes_that_wait_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_BYTES", 1_000)
    found = recorder(tmp_path, Counters(), interval=60.0)
    monkeypatch.setattr(found, "_ring", lambda: None)
    for age in range(100):
        found.saw(person(age=age))
    assert 1 < len(found._waiting) < 15
    monkeypatch.undo()
    found.flush()


class Lazy:
    """A table without keys that claims a length."""

    def __init__(self, length: int) -> None:
        self.shape = (length, 2)


@pytest.mark.parametrize("length", [-5, 10**12, 2**64, 10**400])
def test_a_table_of_impossible_length_is_predicted_and_counted(tmp_path: Path, length: int) -> None:
    """Also with a table that is too long to count its rows one by one."""
    cache = Cache("embedded://", enabled=False, record=tmp_path, record_share=0.5)

    @cache.memoize_rows(version="1", name="ones")
    def ones(_: Lazy) -> float:
        return 1.0

    with cache:
        assert ones(Lazy(length)) == 1.0
    expected = length if 0 < length < sys.maxsize else 1
    assert total(tmp_path) == expected
    assert total(tmp_path, "unrecordable") == round(expected / 2)
