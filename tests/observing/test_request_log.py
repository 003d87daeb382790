"""Recorded requests go to files that rotate, a bounded number of them, each of one process."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from model_cache.observing.request_log import Recording, RequestLog

HEADER = b'{"model_cache_requests": 1}\n'
RECORDING = Recording("test/model", HEADER)
LINE = b"x" * 99 + b"\n"


def test_a_full_file_is_followed_by_another_with_a_header(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, file_bytes=1_000)
    for _ in range(5):
        log.write(RECORDING, [LINE] * 4)
    texts = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(texts) == 3
    assert all(text.startswith(HEADER) for text in texts)
    assert sum(text.count(LINE) for text in texts) == 20
    assert max(map(len, texts)) <= 1_000


def test_many_lines_at_once_are_spread_and_none_is_cut(tmp_path: Path) -> None:
    RequestLog(tmp_path, file_bytes=250).write(RECORDING, [LINE] * 5 + [b"y" * 600 + b"\n"])
    texts = [path.read_bytes() for path in tmp_path.iterdir()]
    assert sum(text.count(LINE) for text in texts) == 5
    assert sum(text.count(b"y" * 600 + b"\n") for text in texts) == 1


def test_the_oldest_files_of_a_model_are_deleted_and_no_others(tmp_path: Path) -> None:
    others = [
        tmp_path / "notes.jsonl",
        tmp_path / "test_model-2-20200101T000000-1-00000000.jsonl",
        tmp_path / "test_model-20200101T000000-1-00000000.jsonl.gz",
    ]
    old = tmp_path / "test_model-20200101T000000-1-00000000.jsonl"
    for path in (*others, old):
        path.touch()
    log = RequestLog(tmp_path, file_bytes=100, most_files=3)
    for _ in range(6):
        log.write(RECORDING, [LINE])
    assert not old.exists()
    assert all(path.exists() for path in others)
    assert len(list(tmp_path.iterdir())) == 3 + len(others)


def test_a_file_that_was_deleted_is_replaced(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.write(RECORDING, [LINE])
    next(tmp_path.iterdir()).unlink()
    log.write(RECORDING, [LINE])
    assert next(tmp_path.iterdir()).read_bytes() == HEADER + LINE


def test_logs_in_one_folder_do_not_disturb_one_another(tmp_path: Path) -> None:
    logs = [RequestLog(tmp_path, file_bytes=500) for _ in range(3)]
    for number in range(10):
        for name, log in zip("abc", logs, strict=True):
            log.write(RECORDING, [f"{name}{number}\n".encode()])
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert sorted(line for line in written.splitlines() if line != HEADER.strip()) == sorted(
        f"{name}{number}".encode() for name in "abc" for number in range(10)
    )


def test_the_folder_is_created_but_not_the_one_above(tmp_path: Path) -> None:
    RequestLog(tmp_path / "requests").write(RECORDING, [LINE])
    assert len(list((tmp_path / "requests").iterdir())) == 1
    with pytest.raises(FileNotFoundError):
        RequestLog(tmp_path / "no" / "requests").write(RECORDING, [LINE])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_only_the_owner_can_read_a_file(tmp_path: Path) -> None:
    RequestLog(tmp_path).write(RECORDING, [LINE])
    assert stat.S_IMODE(next(tmp_path.iterdir()).stat().st_mode) == 0o600
