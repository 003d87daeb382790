"""Write the requests that `warm` rejects to a new file; an existing file is never changed."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import chain
from itertools import count as numbers
from pathlib import Path
from typing import BinaryIO

from model_cache.errors import ConfigurationError


class RejectedFile:
    """A file of rejected requests in JSON Lines, created with the first of them.

    Args:
        path: the file; if it exists, a number is added to the name.

    Attributes:
        path: the file that is written to; None if nothing was rejected.
        count: how many requests are in it.

    Raises:
        ConfigurationError: there can't be a file of this name.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir() or not path.parent.is_dir():
            raise ConfigurationError(
                "--rejected", f"expected a file in an existing folder, got {str(path)!r}"
            )
        self.path: Path | None = None
        self.count = 0
        self._wanted = path
        self._file: BinaryIO | None = None

    def add(self, number: int, reason: str, request: str) -> None:
        """Write a request down, with its line number and the reason."""
        file = self._file = self._file or self._create()
        file.write(json.dumps({"line": number, "reason": reason, "request": request}).encode())
        file.write(b"\n")
        file.flush()
        self.count += 1

    def _create(self) -> BinaryIO:
        wanted = self._wanted
        if wanted.exists() and not wanted.is_file():  # a device or a pipe, such as /dev/null
            self.path = wanted
            return wanted.open("wb")
        numbered = (wanted.with_name(f"{wanted.name}.{number}") for number in numbers(1))
        for path in chain([wanted], numbered):
            with suppress(FileExistsError):
                file = path.open("xb")
                self.path = path
                return file
        raise AssertionError("the numbers do not end")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
