"""The revisions of the models in memory, each computed from the model's files once.

Files may be replaced while a model loaded from them is still in use. So the digest from its first
binding remains its revision until its name or version shows that it was reloaded.
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
    """A model's revision, with the name, version and files it was computed for."""

    qualified_name: str
    version: str
    files: Files
    revision: str


# By identity, since models may be equal or unhashable.
_models: dict[int, tuple[weakref.ref[Any], dict[Files, Taken]]] = {}
_lock = ForkSafeLock()


def recall(model: MLModel, files: Files) -> Taken | None:
    """Return a model's recorded revision if its name and version have not changed since."""
    found = _models.get(id(model))
    taken = found[1].get(files) if found is not None and found[0]() is model else None
    if taken is None or (taken.qualified_name, taken.version) != _names(model):
        return None
    return taken


def take(model: MLModel, files: Files) -> Taken:
    """Return a model's recorded revision; hash its files if there is none.

    Raises:
        ConfigurationError: a file can't be read.
    """
    names = _names(model)
    taken = recall(model, files) or Taken(*names, files, revision_of(*files))
    with _lock:
        # If two threads hash at once, the first result counts.
        return recall(model, files) or remember(model, taken)


def remember(model: MLModel, taken: Taken) -> Taken:
    """Record the revision of a model, or of a copy of it."""
    reference, known = _models.get(id(model), (None, {}))
    if reference is None or reference() is not model:
        known = {}
        number = id(model)  # not reused before the finalizer below has run
        _models[number] = weakref.ref(model, lambda _: _models.pop(number, None)), known
    known[taken.files] = taken
    return taken


def _names(model: MLModel) -> tuple[str, str]:
    return model.qualified_name, model.version
