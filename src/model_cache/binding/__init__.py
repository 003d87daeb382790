"""Immutable snapshots of a model: everything a prediction needs to know about it.

`binding` is the snapshot of an ml-base model, `bound` its protocol, which those of functions and
estimators have, too; `current` holds the one that new predictions use. The other modules
provide its parts: the model's schemas and their fingerprint, the options that must match them
(`fitting`), the decorators and caches between the cache and its model, and the revision of the
loaded weights.
"""

from model_cache.binding.binding import Binding, Unbound, new_near_prefix
from model_cache.binding.bound import Bound, Current
from model_cache.binding.current import CurrentBinding

__all__ = ["Binding", "Bound", "Current", "CurrentBinding", "Unbound", "new_near_prefix"]
