"""One model at one moment: what a prediction needs to know of it, frozen.

`binding` is the snapshot itself and `current` the one that predictions begin with. The rest is what
goes into it: the model's schemas and their fingerprint, the options that must fit them (`fitting`),
the decorators and caches between the cache and its model, and the revision of the weights in
memory. Nothing here predicts, reads or writes.
"""

from model_cache.binding.binding import Binding, Bound, Unbound
from model_cache.binding.current import CurrentBinding

__all__ = ["Binding", "Bound", "CurrentBinding", "Unbound"]
