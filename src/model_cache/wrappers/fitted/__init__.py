"""Fingerprints of fitted estimators, so that their weights are part of their keys.

This package knows how an object's state can be read, when it may have changed, and what a few
libraries do differently. It knows nothing of caches.
"""

from model_cache.wrappers.fitted.current import CurrentState
from model_cache.wrappers.fitted.state import fitted_state

__all__ = ["CurrentState", "fitted_state"]
