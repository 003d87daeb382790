"""Files of recorded requests: JSON Lines that rotate by size, up to a number of files.

Each process writes files of its own, so that several processes may share a folder. The first line
of a file is its header. Each further line is a request, or the counts of requests since the last
such line. This module does not know what a request contains.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from model_cache.forks import renew_after_fork

HEADER = "model_cache_requests"
"""The first name in the first line of each file; its value is the version of the format."""

FORMAT = 1
FILE_BYTES = 16 * 2**20
MOST_FILES = 64

_UNSAFE = re.compile(r"[^A-Za-z0-9._]")
_LONGEST_NAME = 80
# Requests are often private.
_MODE = 0o600


class Recording(NamedTuple):
    """What the requests of a file have in common.

    Attributes:
        name: the model's name, with which the files' names begin.
        header: the first line of each file.
    """

    name: str
    header: bytes


class RequestLog:
    """Writes requests to the files of one process in a folder; not thread-safe.

    Args:
        folder: the folder. It is created if the folder above it exists.
        file_bytes: the size at which a new file begins.
        most_files: how many files of a model to keep in the folder, including those of other
            processes; the oldest are deleted.
    """

    def __init__(
        self, folder: Path, file_bytes: int = FILE_BYTES, most_files: int = MOST_FILES
    ) -> None:
        self.folder = folder
        self._file_bytes = file_bytes
        self._most_files = most_files
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Begin a new file, because the current one is the parent's."""
        self._path: Path | None = None
        self._recording: Recording | None = None

    def write(self, recording: Recording, lines: Sequence[bytes]) -> None:
        """Append lines, each of which ends with a line break.

        Raises:
            OSError: some or all of them could not be written.
        """
        if recording != self._recording:
            self._path, self._recording = None, recording
        for part in _parts(lines, self._file_bytes):
            try:
                self._append(recording, part)
            except OSError:
                self._path = None  # the file may end in half a line
                raise

    def _append(self, recording: Recording, part: bytes) -> None:
        # Opened each time, so that unused decorators and forked children keep no file open, and a
        # deleted file is noticed.
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError), self._path.open("r+b", 0) as file:
                if file.seek(0, os.SEEK_END) + len(part) <= self._file_bytes:
                    _write_all(file.fileno(), part)
                    return
        self._begin(recording, part)

    def _begin(self, recording: Recording, part: bytes) -> None:
        """Begin a new file."""
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir()
        name = _UNSAFE.sub("_", recording.name)[:_LONGEST_NAME]
        began = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = self.folder / f"{name}-{began}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        with open(path, "xb", 0, opener=_private) as file:
            _write_all(file.fileno(), recording.header + part)
        self._path = path
        self._delete_oldest(name)

    def _delete_oldest(self, name: str) -> None:
        pattern = re.compile(rf"{re.escape(name)}-(\d{{8}}T\d{{6}})-\d+-[0-9a-f]{{8}}\.jsonl")
        names = [each.name for each in self.folder.iterdir() if pattern.fullmatch(each.name)]
        for oldest in sorted(names)[: -self._most_files]:
            with contextlib.suppress(OSError):  # another process was faster, or has it open
                (self.folder / oldest).unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _MODE)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _parts(lines: Sequence[bytes], most: int) -> Iterator[bytes]:
    """Yield the lines, joined into parts that fit into a file."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and size + len(line) > most:
            yield b"".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield b"".join(part)
