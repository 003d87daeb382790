"""The state of an estimator that may change at any time.

`fit` and `set_params` change an estimator by setting new attributes. Comparing these is cheap
enough for each prediction. A change inside an array is not seen.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.forks import ForkSafeLock
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.wrappers.fitted.libraries import without_derived
from model_cache.wrappers.fitted.state import fitted_state


class CurrentState:
    """The state of an estimator, as text for keys, read again after each change.

    An estimator may change through its wrapper, by a method such as `fit` or a new attribute, which
    the wrapper does inside `changing`. It may also change without the wrapper, which shows in its
    attributes. Reading the state may take long, so it is read when the next prediction asks for it.
    In between, no binding is current, so no prediction that began before the change is stored.

    A binding is current until the next change. Comparing fingerprints is not enough: the estimator
    may have changed twice, and be the same again.

    Args:
        estimator: the estimator.
        revision: returns what takes the place of the fingerprint; None to take the fingerprint.
        refitted: distinguishes a refitted estimator from the one that the revision describes.

    Attributes:
        text: the state when it was last read.
        refusal: why it has no fingerprint any more; empty if it has one.
        refitted: as above, for a copy of the estimator.
        lock: hold it to bind something to the state.
    """

    def __init__(
        self, estimator: Any, revision: Callable[[], str] | None, refitted: str = ""
    ) -> None:
        self._estimator = estimator
        self._revision = revision
        self.refitted = refitted
        self.refusal = ""
        self.lock = ForkSafeLock()
        self._running = 0  # methods that may change it
        self._change = self._read_after = object()  # the last change, and the last that was read
        self._attributes = tuple(_attributes_of(estimator))
        self.text = self._read()

    def _read(self) -> str:
        if self._revision is None:
            return f"state:{fitted_state(self._estimator)}"
        return f"{self._revision()}{self.refitted}"

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Note that the estimator may change in the `with` block."""
        with self.lock:
            self._running += 1
        try:
            yield
        finally:
            with self.lock:
                self._change = object()  # first: bindings are not current in between
                self._running -= 1

    def since_now(self) -> Callable[[], bool]:
        """Return a function that returns whether the estimator has not changed since this call."""
        return functools.partial(self._is_unchanged_since, self._change)

    def _is_unchanged_since(self, change: object) -> bool:
        return change is self._change and not self._running and not self._may_have_changed()

    def _may_have_changed(self) -> bool:
        return self._change is not self._read_after or not _are_same(
            self._attributes, _attributes_of(self._estimator)
        )

    def renew(self, bind: Callable[[], object]) -> None:
        """Read the state again if the estimator may have changed, and then call `bind`."""
        if not self._may_have_changed():
            return
        with self.lock:
            if not self._may_have_changed():  # another thread has done it
                return
            self._change = change = object()  # it may have changed without the wrapper
            attributes = tuple(_attributes_of(self._estimator))
            # A revision describes what was wrapped, so what was learned since needs another one.
            self.refitted = f" refitted {secrets.token_hex(8)}"
            try:
                self.text = self._read()
                self.refusal = ""
            except ConfigurationError as error:  # too late to fail
                self.refusal = str(error)
            bind()
            # Last: until then, other threads wait for the lock, and don't use the old state.
            self._attributes, self._read_after = attributes, change


def _attributes_of(estimator: Any, depth: int = 4) -> Iterator[Any]:
    """Yield the attributes of an estimator and of those inside it, which `fit` replaces."""
    held = without_derived(type(estimator), getattr(estimator, "__dict__", {})).values()
    for value in (*held, *_in_slots(estimator)):
        yield value
        if depth:
            yield from _inside(value, depth - 1)


def _in_slots(estimator: Any) -> Iterator[Any]:
    cls: type = type(estimator)
    for get in _slots_of(cls):
        with contextlib.suppress(AttributeError):  # it is empty
            yield get(estimator)


@functools.lru_cache(1024)
def _slots_of(cls: type) -> tuple[Callable[[Any], Any], ...]:
    return tuple(
        member.__get__
        for base in cls.__mro__
        if "__slots__" in vars(base)  # a class written in C has members that are new at each read
        for member in vars(base).values()
        if isinstance(member, types.MemberDescriptorType)
    )


def _inside(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, (list, tuple)) and len(value) < 100:
        for each in value:
            yield from _inside(each, depth)
    elif hasattr(value, "get_params") and not isinstance(value, type):
        yield from _attributes_of(value, depth)


def _are_same(before: Sequence[Any], now: Iterator[Any]) -> bool:
    """Return whether attributes are those that there were before."""
    current = list(now)
    return len(before) == len(current) and all(map(_is, before, current))


def _is(one: Any, other: Any) -> bool:
    """Return whether a value is the same one, or as good as that.

    Some estimators replace short lists and arrays by equal ones whenever they predict.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_is_item, one, other))
    numpy = loaded_numpy()
    if numpy is None or type(one) is not numpy.ndarray:
        return False
    kinds = [(each.dtype, each.shape, each.strides) for each in (one, other)]
    return kinds[0] == kinds[1] and all(map(_is_item, one.flat, other.flat))


def _is_item(one: Any, other: Any) -> bool:
    return one is other or (
        type(one) is type(other) and isinstance(one, (str, int)) and bool(one == other)
    )
