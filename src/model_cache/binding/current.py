"""The current binding of a decorator, renewed when the model or its files change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel

from model_cache.binding import fitting
from model_cache.binding.binding import Binding, Unbound
from model_cache.binding.decorators import Inside, decorator_identity, innermost, layers
from model_cache.binding.inputs import Inputs
from model_cache.binding.namesakes import warn_of_namesakes
from model_cache.binding.taken_revisions import Taken, recall, remember, take
from model_cache.binding.unkeyed import warn_of_fresh_defaults
from model_cache.errors import ConfigurationError, ModelCacheError
from model_cache.forks import ForkSafeLock
from model_cache.interruptions import reraise_interruption
from model_cache.keys.key import Namespace
from model_cache.observing.events import BindingFailed, Hook
from model_cache.options.config import Config
from model_cache.protocols import Clock

# Seconds after which to retry binding a model: one of its files may have been incomplete.
_RETRY_SECONDS = 1.0


class CurrentBinding:
    """Holds the binding for new predictions and renews it when the model changes.

    Args:
        config: the decorator's options.
        hook: receives `BindingFailed` if the model changes and no longer matches the options.
        clock: decides when to retry.

    Attributes:
        binding: the binding; None before the first model.
        lock: hold it while setting `binding`.
    """

    def __init__(self, config: Config, hook: Hook, clock: Clock = time.monotonic) -> None:
        self.binding: Binding | Unbound | None = None
        self.lock = ForkSafeLock()
        self._config = config
        self._files = config.revision if isinstance(config.revision, tuple) else ()
        self._hook = hook
        self._clock = clock
        self._thread: threading.Thread | None = None

    def bound(self) -> Binding | Unbound:
        """Return the binding without renewing it.

        Raises:
            ModelCacheError: no model is set.
        """
        if self.binding is None:
            raise ModelCacheError("no model is set; call set_model first")
        return self.binding

    def bind(self, model: MLModel) -> Binding:
        """Return a new binding for `set_model`; may hash the files of the revision.

        Raises:
            ConfigurationError: an option does not match the model's schemas.
        """
        binding = self._settled(model)
        if self._config.enabled:
            fitting.warn_of_echoed_fields(
                binding.input_schema, binding.output_schema, binding.selection, stacklevel=3
            )
            warn_of_fresh_defaults(binding.input_schema, binding.selection, stacklevel=3)
            warn_of_namesakes(binding, self._config, stacklevel=3)
        return binding

    def get(self) -> Binding | Unbound:
        """Return the binding, renewed if the model was reloaded under another version or name.

        If the new model can't be bound, or not at once, predictions go on without the cache.

        Raises:
            ModelCacheError: no model is set.
        """
        binding = self.binding or self.bound()  # `bound` raises
        model = binding.model
        try:
            if binding.is_current():
                return binding
            name, version = model.qualified_name, model.version
        except Exception as error:  # e.g. a property raised; the next prediction tries again
            reraise_interruption(error)
            return self._failed(model, binding.qualified_name, binding.version, error)
        try:
            if (outer := self._waiting_for_inner(model, name, version)) is not None:
                return self._swap(binding, outer)
            revision = self._known_revision(model)
            # In this order: the binding is replaced before the files are hashed.
            if self.binding is not binding:
                return self.bound()
            if revision is None:
                return self._waiting_for_files(binding, name, version)
            renewed: Binding | Unbound = Binding(model, self._config, revision, _inside(model))
        except Exception as error:  # the options no longer match its schemas
            reraise_interruption(error)
            renewed = self._failed(model, name, version, error)
        return self._swap(binding, renewed)

    @property
    def taken(self) -> Taken | None:
        """The digest of the model's files, for a copy of the decorator to reuse."""
        if self.binding is None or not self._files:
            return None
        try:
            return recall(innermost(self.binding.model), self._files)
        except Exception as error:  # its version can't be read
            reraise_interruption(error)
            return None

    @staticmethod
    def adopt(model: MLModel, taken: Taken | None) -> None:
        """Give a copied model the digest of the original's files."""
        if taken is not None:
            remember(innermost(model), taken)

    def _settled(self, model: MLModel) -> Binding:
        """Return a new binding after binding the inner caches."""
        for cache in _caches(model):
            inner = cache.bound()
            if isinstance(inner, Unbound) or not inner.is_current():
                cache._swap(inner, cache._settled(inner.model))
        return self._made(model)

    def _made(self, model: MLModel) -> Binding:
        """Return a new binding; hash the files of the revision if necessary."""
        revision = self._known_revision(model)
        if revision is None:
            revision = take(innermost(model), self._files).revision
        return Binding(model, self._config, revision, _inside(model))

    def _known_revision(self, model: MLModel) -> str | None:
        """Return the model's revision; None if its files have to be hashed first."""
        if not isinstance(self._config.revision, tuple):
            return self._config.revision or ""
        taken = recall(innermost(model), self._files)
        return None if taken is None else taken.revision

    def _swap(self, before: Binding | Unbound, renewed: Binding | Unbound) -> Binding | Unbound:
        with self.lock:
            if self.binding is before:  # set_model may have replaced it meanwhile
                self.binding = renewed
        return renewed

    def _waiting_for_inner(self, model: MLModel, name: str, version: str) -> Unbound | None:
        """Renew the bindings of inner caches; return an `Unbound` until that is done."""
        for cache in _caches(model):
            if isinstance(inner := cache.get(), Unbound):
                return self._unbound(model, name, version, inner.reason, inner.is_current)
        return None

    def _waiting_for_files(
        self, before: Binding | Unbound, name: str, version: str
    ) -> Binding | Unbound:
        """Hash the files on a thread; return an `Unbound` until that is done."""
        with self.lock:
            if self.binding is not before:  # another prediction or set_model was faster
                return self.bound()
            thread = self._thread
            is_running = thread is not None and thread.is_alive()  # False in a forked child
            if thread is None or not is_running:
                thread = threading.Thread(
                    target=lambda: self._rebind(waiting),
                    name="model_cache-revision",
                    daemon=True,
                )
            reason = "the model changed, and the files of its revision are being hashed"
            waiting = self._unbound(before.model, name, version, reason, thread.is_alive)
            if not is_running:
                thread.start()
                self._thread = thread
            self.binding = waiting
            return waiting

    def _rebind(self, waiting: Unbound) -> None:
        with self.lock:
            pass  # wait until the starting thread has replaced the binding; see `get`
        model = waiting.model
        try:
            renewed: Binding | Unbound = self._made(model)
            if not renewed.is_current():  # it changed again; the next prediction handles it
                return
        except Exception as error:
            renewed = self._failed(model, waiting.qualified_name, waiting.version, error)
        self._swap(waiting, renewed)

    def _failed(self, model: MLModel, name: str, version: str, error: Exception) -> Unbound:
        self._hook(BindingFailed(type(model).__qualname__, str(error)))
        until = self._clock() + _RETRY_SECONDS
        return self._unbound(model, name, version, str(error), lambda: self._clock() < until)

    def _unbound(
        self, model: MLModel, name: str, version: str, reason: str, lasts: Callable[[], bool]
    ) -> Unbound:
        namespace = Namespace(self._config.prefix, name, version)
        try:
            inputs = Inputs(model, self._config)
        except Exception as error:  # must not fail a prediction
            reraise_interruption(error)
            inputs = None
        return Unbound(model, name, version, namespace, inputs, reason, lasts)


def _cache(layer: MLModel) -> CurrentBinding | None:
    # Through __dict__, since ml-base forwards attribute access to the inner model.
    current = layer.__dict__.get("_current")
    return current if isinstance(current, CurrentBinding) else None


def _caches(model: MLModel) -> Iterator[CurrentBinding]:
    """Yield the current bindings of the caches around a model, outermost first."""
    for layer in layers(model):
        if (cache := _cache(layer)) is not None:
            yield cache


def _inside(model: MLModel) -> Inside:
    """Return the decorators between a cache and its model, with the revisions of caches."""
    parts, watched = [], []
    for layer in layers(model):
        if not isinstance(layer, MLModelDecorator):
            break
        revision, attributes = "", layer.__dict__
        watched.append((attributes, "_model", attributes.get("_model")))
        if (cache := _cache(layer)) is not None:
            inner = cache.bound()
            if isinstance(inner, Unbound):
                raise ConfigurationError("model", f"the inner cache is not bound: {inner.reason}")
            revision = inner.revision
            watched.append((cache.__dict__, "binding", inner))
        parts.append(decorator_identity(layer, revision))
    return Inside(b"".join(parts), tuple(watched))
