"""`Cache`, and what it wraps: functions, functions of many rows, and estimators.

Each wrapper makes a binding, as `RedisCachingDecorator` does for an ml-base model, and hands its
calls to the predictors in `prediction`. This package knows signatures, tables and estimators; it
knows nothing of stores, and decides nothing about a prediction.
"""

from model_cache.wrappers.cache import Cache
from model_cache.wrappers.explaining import ExplainedCall
from model_cache.wrappers.functions import CacheInfo, Memoized
from model_cache.wrappers.rows import MemoizedRows

__all__ = ["Cache", "CacheInfo", "ExplainedCall", "Memoized", "MemoizedRows"]
