"""The revision of a model, which distinguishes models of the same version.

It is a string from the user or a digest of the model's files. The binding decides when the files
are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.interruptions import reraise_interruption

_OF_FILES = "files:"
_TAKEN = re.compile(_OF_FILES + "[0-9a-f]{32}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_GLOB = re.compile(r"[*?]|\[[^\]]*\]")
# ${SHA}, $SHA, $(git ...), {{ sha }}, {sha}, #{Sha}#, <sha>, %SHA%, %(sha)s, @SHA@, `git ...`
_PLACEHOLDER = re.compile(
    r"\$[\w{(]|\{\{|\{[\w. -]+\}|<[\w. -]+>|%[A-Za-z_]\w*%|%\(\w+\)|@[A-Za-z_]\w*@|`"
)
_VAGUE = re.compile(
    r"changeme|current|default|dev|develop|development|dirty|head|latest|local|main|master|na|"
    r"nil|none|null|prod|production|release|snapshot|stable|staging|tbd|test|todo|trunk|undefined|"
    r"unknown|unset"
)
_SEPARATOR = re.compile(r"[/\\:@]")  # origin/main, models:/charges/production, image:latest
_MODEL_FILE = re.compile(
    r"\.(bin|bst|cbm|ckpt|csv|dill|gguf|gz|h5|hdf5|joblib|json|keras|mar|model|npy|npz|onnx|pb|"
    r"pickle|pkl|pt|pth|py|safetensors|tar|tflite|txt|ubj|xml|yaml|yml|zip)",
    re.IGNORECASE,
)
# A drive or a folder, but neither 2026/11/21 nor runs:/3f2a.
_PATH = re.compile(r"[a-z]:\\|[~.]|(?![a-z]{2,}:/)(?=.*[a-z]).*[/\\]", re.IGNORECASE)


def revision_of(*paths: str | Path) -> str:
    """Return the revision for a model's files, to pass as the option `revision`.

    Call it before you load the model. Then it describes the weights in memory, even if the files
    are replaced before `set_model` is called.

        revision = model_cache.revision_of("model.joblib")
        model = RedisCachingDecorator(revision=revision).set_model(load("model.joblib"))

    Args:
        paths: files and folders. Only the files' contents count and, inside a folder, their
            names. Symbolic links are followed.

    Raises:
        ConfigurationError: a path can't be read, is neither a file nor a folder, or is a folder
            without files.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for path in _paths(paths):
        for part in _parts(path):
            hasher.update(b"%x:%b" % (len(part), part))
    return _OF_FILES + hasher.hexdigest()


def parse_revision(value: Any) -> str | tuple[Path, ...] | None:
    """Validate the option `revision`: return a string, or the paths of the model's files.

    Raises:
        ConfigurationError: it is neither, or a string that names a file or a placeholder.
    """
    if value is None:
        return None
    if isinstance(value, str) and value.strip():
        _check_text(value)
        return value
    paths = (value,) if isinstance(value, Path) else value
    if isinstance(paths, (list, tuple)):
        return _paths(paths)
    raise _unexpected(value)


def _paths(given: list[Any] | tuple[Any, ...]) -> tuple[Path, ...]:
    if not given or not all(isinstance(path, (str, Path)) and str(path) for path in given):
        raise _unexpected(given)
    return tuple(map(Path, given))


def _unexpected(value: object) -> ConfigurationError:
    return ConfigurationError(
        "revision",
        "expected a non-empty string (quoted, in YAML), or a list of the model's files, "
        f"got {value!r}",
    )


def _check_text(text: str) -> None:
    """Reject, or warn of, a string that stays the same when the model changes."""
    if _TAKEN.fullmatch(text):
        return
    path = os.path.expanduser(text)  # Path.expanduser raises if there is no home
    wrong = None
    if os.path.lexists(path):
        kind = "folder" if os.path.isdir(path) else "file"
        wrong = f"{text!r} is a {kind}; to hash it, use a list: [{text!r}]"
    elif _URL.match(text):
        wrong = f"{text!r} is a URL, which is not read; use a string that changes with the model"
    elif _PLACEHOLDER.search(text):
        wrong = f"{text!r} contains a placeholder that was not filled in"
    elif _GLOB.search(text):
        wrong = f"{text!r} is a pattern, which is not expanded; use a list of files or folders"
    if wrong is not None:
        raise ConfigurationError("revision", wrong)
    if _VAGUE.fullmatch(_SEPARATOR.split(text.strip().casefold())[-1]):
        doubt = "does not change when the model does; use a commit, a training run or a digest"
    elif _MODEL_FILE.fullmatch(Path(text).suffix) or _PATH.match(text):
        doubt = f"looks like a path but is used as a string; to hash the file, use [{text!r}]"
    else:
        return
    # Points to the line that creates the decorator.
    warnings.warn(f"revision: {text!r} {doubt}", UserWarning, stacklevel=6)


def _parts(path: Path) -> Iterator[bytes]:
    """Yield the parts of a file or folder to hash."""
    with _reading(path):
        path = path.expanduser()
    if not _is_folder(path):
        yield _digest(path)
        return
    inside = list(_inside(path, path, ()))
    if not any(is_file for _, _, is_file in inside):
        raise ConfigurationError("revision", f"{str(path)!r} is a folder without files")
    for name, content, _ in inside:
        yield name
        yield content


def _inside(
    top: Path, folder: Path, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield each file below a folder: its name, its digest, and True.

    A link to one of its own parent folders would loop: it yields the number of levels up instead,
    and False.
    """
    with _reading(folder):
        above = (_identity(folder), *above)
        paths = sorted(folder.iterdir(), key=os.fsencode)
    for path in paths:
        name = os.fsencode(path.relative_to(top).as_posix())
        if not _is_folder(path):
            yield name, _digest(path), True
        elif (identity := _identity(path)) in above:
            yield name, b"%x" % above.index(identity), False
        else:
            yield from _inside(top, path, above)


def _is_folder(path: Path) -> bool:
    with _reading(path):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError("it is neither a file nor a folder")
        return stat.S_ISDIR(mode)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _digest(path: Path) -> bytes:
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reraise_interruption(error)
        where = ""
        if not path.is_absolute():
            # A service may be started in another folder than its author expected.
            with contextlib.suppress(OSError):
                where = f" in the current folder, {str(Path.cwd())!r}"
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            "revision", f"can't read {str(path)!r}{where}: {reason}"
        ) from error
