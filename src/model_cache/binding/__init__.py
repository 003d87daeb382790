"""One model at one moment: what a prediction needs to know of it, frozen.

`bound` holds the binding itself, `current` which binding a prediction begins with, `taken` the
revisions of models in memory, `inside` the decorators between the cache and its model, `fitting`
how options and schemas go together, and `namesakes` the models that share entries by mistake.
"""

from model_cache.binding.bound import Binding, Bound, Unbound
from model_cache.binding.current import CurrentBinding

__all__ = ["Binding", "Bound", "CurrentBinding", "Unbound"]
