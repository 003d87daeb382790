"""Which binding a prediction begins with, when its model or the model's files may change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel

from model_cache.binding import fitting
from model_cache.binding.binding import Binding, Bound, Unbound
from model_cache.binding.decorators import innermost, layers
from model_cache.binding.inner_caches import Inside, decorator_identity
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

# After which a model that could not be bound is tried again: a file may have been on its way.
_RETRY_SECONDS = 1.0


class CurrentBinding:
    """The binding that predictions begin with, made anew when the model changes under it.

    Args:
        config: the decorator's options.
        hook: is told if the model changed into one which they don't fit.
        clock: for when to try again.

    Attributes:
        binding: the binding; None before the first model.
        lock: to be held while setting it.
    """

    def __init__(self, config: Config, hook: Hook, clock: Clock = time.monotonic) -> None:
        self.binding: Bound | None = None
        self.lock = ForkSafeLock()
        self._config = config
        self._files = config.revision if isinstance(config.revision, tuple) else ()
        self._hook = hook
        self._clock = clock
        self._thread: threading.Thread | None = None

    def bound(self) -> Bound:
        """Return the binding as it is.

        Raises:
            ModelCacheError: there is no model yet.
        """
        if self.binding is None:
            raise ModelCacheError("there is no model yet; give one with set_model")
        return self.binding

    def bind(self, model: MLModel) -> Binding:
        """Return a new binding, for `set_model`; files of the revision may be read.

        Raises:
            ConfigurationError: an option does not fit the model's schemas.
        """
        binding = self._settled(model)
        if self._config.enabled:
            fitting.warn_of_echoed_fields(
                binding.input_schema, binding.output_schema, binding.selection, stacklevel=3
            )
            warn_of_fresh_defaults(binding.input_schema, binding.selection, stacklevel=3)
            warn_of_namesakes(binding, self._config, stacklevel=3)
        return binding

    def get(self) -> Bound:
        """Return the binding, made anew if the model was reloaded under another version or name.

        A prediction must neither fail nor wait for what the cache can't do: it goes without, then.

        Raises:
            ModelCacheError: there is no model yet.
        """
        binding = self.bound()
        model = binding.model
        try:
            if binding.is_current():
                return binding
            name, version = model.qualified_name, model.version
        except Exception as error:  # it can't tell now, and may the next time
            reraise_interruption(error)
            return self._failed(model, binding.qualified_name, binding.version, error)
        try:
            if (outer := self._waiting_for_inner(model, name, version)) is not None:
                return self._swap(binding, outer)
            revision = self._known_revision(model)
            # In this order: who has the files hashed replaces the binding before they are.
            if self.binding is not binding:
                return self.bound()
            if revision is None:
                return self._waiting_for_files(binding, name, version)
            renewed: Bound = Binding(model, self._config, revision, _inside(model))
        except Exception as error:  # the options don't fit its schemas any more
            reraise_interruption(error)
            renewed = self._failed(model, name, version, error)
        return self._swap(binding, renewed)

    @property
    def taken(self) -> Taken | None:
        """What was taken of the model's files, for a copy of the decorator to have as well."""
        if self.binding is None or not self._files:
            return None
        try:
            return recall(innermost(self.binding.model), self._files)
        except Exception as error:  # its version can't be told
            reraise_interruption(error)
            return None

    @staticmethod
    def adopt(model: MLModel, taken: Taken | None) -> None:
        """Let a copied model have what was taken of the original's files."""
        if taken is not None:
            remember(innermost(model), taken)

    def _settled(self, model: MLModel) -> Binding:
        """Return a new binding, and have the caches inside bound as well."""
        for cache in _caches(model):
            inner = cache.bound()
            if isinstance(inner, Unbound) or not inner.is_current():
                cache._swap(inner, cache._settled(inner.model))
        return self._made(model)

    def _made(self, model: MLModel) -> Binding:
        """Return a new binding; read the files of the revision if need be."""
        revision = self._known_revision(model)
        if revision is None:
            revision = take(innermost(model), self._files).revision
        return Binding(model, self._config, revision, _inside(model))

    def _known_revision(self, model: MLModel) -> str | None:
        """Return the model's revision; None if its files must be read for it."""
        if not isinstance(self._config.revision, tuple):
            return self._config.revision or ""
        taken = recall(innermost(model), self._files)
        return None if taken is None else taken.revision

    def _swap(self, before: Bound, renewed: Bound) -> Bound:
        with self.lock:
            if self.binding is before:  # else a set_model came in between
                self.binding = renewed
        return renewed

    def _waiting_for_inner(self, model: MLModel, name: str, version: str) -> Unbound | None:
        """Have the caches inside bound anew; return what to go on with until they are."""
        for cache in _caches(model):
            if isinstance(inner := cache.get(), Unbound):
                return self._unbound(model, name, version, inner.reason, inner.is_current)
        return None

    def _waiting_for_files(self, before: Bound, name: str, version: str) -> Bound:
        """Have the files hashed by a thread; return what to go on with until they are."""
        with self.lock:
            if self.binding is not before:  # another prediction was faster, or a set_model
                return self.bound()
            thread = self._thread
            is_running = thread is not None and thread.is_alive()  # not so in a forked child
            if thread is None or not is_running:
                thread = threading.Thread(
                    target=lambda: self._bind_anew(waiting),
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

    def _bind_anew(self, waiting: Unbound) -> None:
        with self.lock:
            pass  # who started this has replaced the binding now; see `get`
        model = waiting.model
        try:
            renewed: Bound = self._made(model)
            if not renewed.is_current():  # it changed again: the next prediction sees to it
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
        except Exception as error:  # no reason to fail a prediction either
            reraise_interruption(error)
            inputs = None
        return Unbound(model, name, version, namespace, inputs, reason, lasts)


def _cache(layer: MLModel) -> CurrentBinding | None:
    # Through __dict__, since ml-base forwards other attributes to the model inside.
    current = layer.__dict__.get("_current")
    return current if isinstance(current, CurrentBinding) else None


def _caches(model: MLModel) -> Iterator[CurrentBinding]:
    """Yield what the caches around a model are bound to, the outermost first."""
    for layer in layers(model):
        if (cache := _cache(layer)) is not None:
            yield cache


def _inside(model: MLModel) -> Inside:
    """Return what stands between a cache and its model, with the revisions of caches."""
    parts, watched = [], []
    for layer in layers(model):
        if not isinstance(layer, MLModelDecorator):
            break
        revision, attributes = "", layer.__dict__
        watched.append((attributes, "_model", attributes.get("_model")))
        if (cache := _cache(layer)) is not None:
            inner = cache.bound()
            if isinstance(inner, Unbound):
                raise ConfigurationError("model", f"the cache inside is not bound: {inner.reason}")
            revision = inner.revision
            watched.append((cache.__dict__, "binding", inner))
        parts.append(decorator_identity(layer, revision))
    return Inside(b"".join(parts), tuple(watched))
