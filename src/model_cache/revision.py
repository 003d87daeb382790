"""The revision of a model: what tells apart two models of the same version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from model_cache.errors import ConfigurationError


def revision_of(given: str | Iterable[Path] | None) -> str:
    """Return the revision: as given, or a digest of what the model's files hold.

    Args:
        given: a text, or paths of files and folders, from the current folder on; their names and
            places don't count, except inside a folder.

    Raises:
        ConfigurationError: a path that can't be read.
    """
    if given is None or isinstance(given, str):
        return given or ""
    hasher = hashlib.blake2b(digest_size=16)
    for path in given:
        try:
            for part in _parts(path):
                hasher.update(b"%x:%b" % (len(part), part))
        except (OSError, ValueError) as error:
            # A service may be started from another folder than the one that was thought of.
            where = "" if path.is_absolute() else f" in the current folder, {str(Path.cwd())!r}"
            raise ConfigurationError(
                "revision", f"can't read {str(path)!r}{where}: {error}"
            ) from error
    return "files:" + hasher.hexdigest()


def _parts(path: Path) -> Iterator[bytes]:
    if not path.is_dir():
        yield _digest(path)
        return
    for inner in sorted(path.rglob("*")):
        if inner.is_file():
            yield inner.relative_to(path).as_posix().encode("utf-8", "surrogateescape")
            yield _digest(inner)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
