"""The fingerprint of a fitted estimator, so that its weights are part of its keys.

It is the same in each process and for each copy of a model that was loaded from the same file. A
Merkle tree: the digest of an object covers its class and the digests of what it holds. Equal
values have equal digests, whether they are shared or copied, since joblib copies shared arrays. A
reference to an object that encloses it counts by its distance, so cycles end. There is no
recursion, and arrays are not copied.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from model_cache.errors import ConfigurationError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical.arrays import loaded_numpy, scalar_encoder
from model_cache.keys.canonical.identities import text
from model_cache.keys.canonical.leaves import LEAVES, Encode
from model_cache.wrappers.fitted.arrays import holds_only_numbers
from model_cache.wrappers.fitted.objects import package_version, parts_of
from model_cache.wrappers.fitted.parts import Child, Named, Parts, Unordered, UnstableError

_FORMAT = b"model_cache fitted state 1"
_DEEPEST = 10_000
"""How deeply objects may be nested; pickle itself gives up at about 300."""
_DEEPEST_SETS = 50


def fitted_state(estimator: object) -> str:
    """Return a fingerprint of everything that an estimator has learned.

    It covers the estimator's class, its complete state as pickle would save it, and the versions
    of the packages that the classes inside come from. Predicting does not change it. The code of
    classes is not covered, and of functions only of those that the state holds themselves.

    Args:
        estimator: a fitted estimator of scikit-learn, XGBoost, LightGBM or CatBoost, or any object
            that can be pickled.

    Returns:
        A BLAKE2b-128 digest of 32 hexadecimal characters.

    Raises:
        ConfigurationError: the estimator holds an object without a stable fingerprint, such as an
            open file or an ONNX session. The message names its path.
    """
    roots: set[str] = set()
    digest = _Walk(roots).digest(estimator)
    hasher = hashlib.blake2b(_FORMAT + digest, digest_size=16)
    for root in sorted(roots):
        version = package_version(root)
        if version is not None:
            hasher.update(text(root) + text(version))
    return hasher.hexdigest()


@dataclasses.dataclass(slots=True)
class _Open:
    """An object whose parts are being hashed."""

    child: Child
    number: int
    parts: Parts
    lowest: int = sys.maxsize  # the first object that one inside refers back to
    hasher: Any = dataclasses.field(default_factory=lambda: hashlib.blake2b(digest_size=16))


@dataclasses.dataclass(slots=True, frozen=True)
class _Closed:
    """An object that refers to nothing outside, hence has the same digest wherever it is."""

    value: Any  # kept alive, so that no other object gets its address
    digest: bytes
    size: int


class _Walk:
    """A walk through an object, depth first.

    Args:
        roots: receives the names of the packages that classes and functions come from.
        path: the path of the object in messages.
        level: how many sets enclose it.
    """

    def __init__(self, roots: set[str], path: str = "", level: int = 0) -> None:
        self._roots = roots
        self._path = path
        self._level = level
        self._count = 0
        self._opened: dict[int, _Open] = {}
        self._closed: dict[int, _Closed] = {}
        self._encoders: dict[type, Encode | None] = dict(LEAVES)

    def digest(self, value: Any) -> bytes:
        frames = [_Open(Child(None), -1, iter((Child(value),)))]
        while True:
            try:
                child = self._advance(frames)
            except (ConfigurationError, MemoryError):
                raise
            except Exception as error:
                reraise_interruption(error)
                self._refuse(frames, error)
            if child is not None:
                frames.append(self._open(child))
                continue
            done = frames.pop()
            if not frames:
                return bytes(done.hasher.digest())
            self._close(done, frames[-1])

    def _advance(self, frames: list[_Open]) -> Child | None:
        """Hash the parts of the innermost object up to the next child that must be opened."""
        frame = frames[-1]
        update: Callable[[Any], None] = frame.hasher.update
        if len(frames) > _DEEPEST:
            raise UnstableError(f"it is nested more than {_DEEPEST:,} levels deep")
        for part in frame.parts:
            if type(part) is Child:
                known = self._known(part.value, frame)
                if known is None:
                    return part
                update(known)
            elif type(part) is Named:
                self._add_roots(part)
                update(text(part.module) + text(part.qualname))
            elif type(part) is Unordered:
                items = (self._alone(item, frames) for item in part.values)
                update(b"".join(sorted(items)) + b")")
            else:
                update(part)
        return None

    def _known(self, value: Any, frame: _Open) -> bytes | None:
        """Return the bytes of a leaf, or of an object that was met before."""
        encode = self._encoder(type(value))
        if encode is not None:
            return encode(value)
        closed = self._closed.get(id(value))
        if closed is not None:
            self._count += closed.size
            return b"#" + closed.digest
        opened = self._opened.get(id(value))
        if opened is None:
            return None
        frame.lowest = min(frame.lowest, opened.number)
        return b"^%x;" % (self._count - opened.number)

    def _encoder(self, cls: type) -> Encode | None:
        try:
            return self._encoders[cls]
        except KeyError:
            numpy = loaded_numpy()
            is_scalar = numpy is not None and issubclass(cls, numpy.generic)
            self._encoders[cls] = scalar_encoder(numpy, cls) if is_scalar else None
            return self._encoders[cls]

    def _open(self, child: Child) -> _Open:
        opened = _Open(child, self._count, _deferred(child.value))
        self._count += 1
        if not holds_only_numbers(child.value):  # a copy of an array must not stay in memory
            self._opened[id(child.value)] = opened
        return opened

    def _close(self, done: _Open, parent: _Open) -> None:
        digest = bytes(done.hasher.digest())
        parent.hasher.update(b"#" + digest)
        if done.lowest < done.number:
            parent.lowest = min(parent.lowest, done.lowest)
        elif self._opened.pop(id(done.child.value), None) is not None:
            value = done.child.value
            self._closed[id(value)] = _Closed(value, digest, self._count - done.number)

    def _alone(self, item: Any, frames: list[_Open]) -> bytes:
        """Return bytes for an item of a set, which do not depend on the other items."""
        if (encode := self._encoder(type(item))) is not None:
            return encode(item)
        if self._level >= _DEEPEST_SETS:
            raise UnstableError(f"it is nested in more than {_DEEPEST_SETS} sets")
        inside = self._path_of(frames) + "{...}"
        return b"#" + _Walk(self._roots, inside, self._level + 1).digest(item)

    def _add_roots(self, part: Named) -> None:
        for module in (part.module, *part.bases):
            self._roots.add(module.partition(".")[0])

    def _path_of(self, frames: list[_Open]) -> str:
        return self._path + "".join(frame.child.step() for frame in frames)

    def _refuse(self, frames: list[_Open], error: Exception) -> NoReturn:
        cls = type(frames[-1].child.value)
        path = _shortened(self._path_of(frames).removeprefix("."))
        # pickle's own words for it would repeat the type.
        reason = f" ({error})" if isinstance(error, UnstableError) and str(error) else ""
        raise ConfigurationError(
            "revision",
            f"{path}{': ' if path else ''}the type {cls.__module__}.{cls.__qualname__} has no "
            f"stable fingerprint{reason}; pass revision=... (a string, or the model's files)",
        ) from error


def _deferred(value: Any) -> Parts:
    """Yield the parts of a value, so that it is open when finding them fails."""
    yield from parts_of(value)


def _shortened(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:100]}...{path[-100:]}"
