"""How far the warming of a cache has come: a small file beside the one with the requests.

It counts only for the same requests, the same keys and the same Redis. The file of what was
rejected goes with it, and nothing of anybody else's is ever overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from model_cache.errors import ConfigurationError

_FORMAT = 1
_BLOCK = 2**20
# How each of our records of a rejected request begins.
_RECORD = b'{"line": '


@dataclass(frozen=True)
class Progress:
    """What is done.

    Attributes:
        key: of the first request: another means other options, or another model.
        store: where the entries are.
        offset: how many bytes of the requests' file are done.
        line: how many lines.
        digest: of these bytes.
        rejected_bytes: of the file of what was rejected.
        rejected_digest: of these bytes.
        counts: of what became of the requests.
    """

    key: str
    store: str
    offset: int = 0
    line: int = 0
    digest: str = ""
    rejected_bytes: int = 0
    rejected_digest: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class ProgressFile:
    """Where progress is kept.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = path.with_name(path.name + ".new")

    def read(self) -> Progress | None:
        """Return what was kept; None if there is nothing, or nothing of use."""
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept.pop("format") != _FORMAT:
                return None
            progress = Progress(**kept)
            numbers = [progress.offset, progress.line, progress.rejected_bytes]
            numbers += progress.counts.values()
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None
        return progress if all(type(each) is int and each >= 0 for each in numbers) else None

    def write(self, progress: Progress) -> None:
        """Keep it, in place of what was kept; never half of it."""
        text = json.dumps({"format": _FORMAT, **vars(progress)})
        with self._written.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._written.replace(self.path)

    def remove(self) -> None:
        """Forget it: all is done."""
        self.path.unlink(missing_ok=True)
        self._written.unlink(missing_ok=True)  # of a run that was killed at a bad moment


class Consumed:
    """The digest of the bytes that are done, of however long a file."""

    def __init__(self) -> None:
        self._hasher = hashlib.blake2b(digest_size=16)
        self.size = 0

    def add(self, raw: bytes) -> None:
        """Count more bytes."""
        self._hasher.update(raw)
        self.size += len(raw)

    @property
    def digest(self) -> str:
        """Theirs, as hexadecimal digits."""
        return self._hasher.hexdigest()


def consumed(stream: BinaryIO, size: int) -> Consumed:
    """Read the first bytes of a stream."""
    done = Consumed()
    while done.size < size and (block := stream.read(min(_BLOCK, size - done.size))):
        done.add(block)
    return done


class Rejected:
    """The requests that could not be predicted, each with the reason, in a file of their own.

    Args:
        path: of the file; made when there is something to be written. One of an earlier run is
            moved aside, unless this run goes on with it.
        progress: of the run that this one goes on with.
        say: is told what people should know.

    Raises:
        ConfigurationError: what is there is not of such a run.
    """

    def __init__(self, path: Path, progress: Progress, say: Callable[[str], None]) -> None:
        self.path = path
        self.written = Consumed()
        if path.is_dir():
            raise ConfigurationError("--rejected", f"{str(path)!r} is a folder; give a file")
        # A device, such as /dev/null, holds nothing that could be lost.
        if path.is_file() and path.stat().st_size and not self._go_on(progress):
            self._move_aside(say)
        if self.written.size < progress.rejected_bytes:
            say(f"what was rejected up to line {progress.line:,} is not in {path}")

    def _go_on(self, progress: Progress) -> bool:
        """Keep what is done of the run that was interrupted, if the file is its; return whether."""
        with self.path.open("rb") as file:
            written = consumed(file, progress.rejected_bytes)
        if not written.size or written.digest != progress.rejected_digest:
            return False
        os.truncate(self.path, written.size)
        self.written = written
        return True

    def _move_aside(self, say: Callable[[str], None]) -> None:
        with self.path.open("rb") as file:
            if file.read(len(_RECORD)) != _RECORD:
                raise ConfigurationError(
                    "--rejected",
                    f"{str(self.path)!r} is there, and not of an earlier run; give another file",
                )
        names = (self.path.with_name(f"{self.path.name}.{number}") for number in count(1))
        aside = next(name for name in names if not os.path.lexists(name))
        self.path.rename(aside)
        say(f"{self.path}, of an earlier run, is {aside.name} now")

    def add(self, number: int, reason: str, request: str) -> None:
        """Write one down."""
        record: dict[str, Any] = {"line": number, "reason": reason, "request": request}
        raw = json.dumps(record).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(raw)
        self.written.add(raw)


def advanced(progress: Progress, done: Consumed, line: int, rejected: Rejected) -> Progress:
    """Return the progress with what is done by now."""
    return replace(
        progress,
        offset=done.size,
        line=line,
        digest=done.digest,
        rejected_bytes=rejected.written.size,
        rejected_digest=rejected.written.digest,
    )
