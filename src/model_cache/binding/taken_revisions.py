"""The revisions of the models in memory, each taken from its files once.

Files may be replaced while a model that was loaded from them lives on. So what they held when it
was first bound stays its revision, until its name or version says that it was loaded anew.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ml_base.ml_model import MLModel

from model_cache.forks import ForkSafeLock
from model_cache.revision import revision_of

Files: TypeAlias = tuple[Path, ...]


class Taken(NamedTuple):
    """A model's revision, and what it was taken of."""

    qualified_name: str
    version: str
    files: Files
    revision: str


# By identity, since models may be equal or unhashable.
_models: dict[int, tuple[weakref.ref[Any], dict[Files, Taken]]] = {}
_lock = ForkSafeLock()


def recall(model: MLModel, files: Files) -> Taken | None:
    """Return what was taken for a model, if it still has the name and version it had then."""
    found = _models.get(id(model))
    taken = found[1].get(files) if found is not None and found[0]() is model else None
    if taken is None or (taken.qualified_name, taken.version) != _names(model):
        return None
    return taken


def take(model: MLModel, files: Files) -> Taken:
    """Return what was taken for a model; hash its files if nothing was.

    Raises:
        ConfigurationError: a file can't be read.
    """
    names = _names(model)
    taken = recall(model, files) or Taken(*names, files, revision_of(*files))
    with _lock:
        # Of two threads that hash at once, the first one's counts.
        return recall(model, files) or remember(model, taken)


def remember(model: MLModel, taken: Taken) -> Taken:
    """Let a model have the revision that was taken for it, or for what it is a copy of."""
    reference, kept = _models.get(id(model), (None, {}))
    if reference is None or reference() is not model:
        kept = {}
        number = id(model)  # given to another object at the earliest after this
        _models[number] = weakref.ref(model, lambda _: _models.pop(number, None)), kept
    kept[taken.files] = taken
    return taken


def _names(model: MLModel) -> tuple[str, str]:
    return model.qualified_name, model.version
