"""A Redis cache for the predictions of machine-learning models.

`RedisCachingDecorator` wraps any ml-base `MLModel` and caches its predictions in Redis. A hit
equals what the model would return, and Redis failures never fail a prediction.

    from model_cache import RedisCachingDecorator

    model = RedisCachingDecorator(url="redis://localhost:6379/0").set_model(MyModel())
    model.predict(data)  # computed and stored
    model.predict(data)  # from Redis

`Cache` does the same for estimators (`wrap`), functions (`memoize`) and functions of many rows
(`memoize_rows`).

Where to read on: `prediction` has the steps of a prediction, `keys` computes cache keys, `entries`
encodes predictions, and `stores` talks to Redis.
"""

from model_cache.binding.explaining import Explanation, Rounded
from model_cache.decorator import RedisCachingDecorator
from model_cache.embedded import embedded_redis
from model_cache.entries.compressors import register_compressor
from model_cache.entries.serders import register_serder
from model_cache.errors import (
    ConfigurationError,
    ModelCacheError,
    NotCacheableError,
    StoreUnavailableError,
)
from model_cache.keys.canonical import register_canonical
from model_cache.keys.comparing import Difference
from model_cache.observing.counters import Stats
from model_cache.observing.outcome import Outcome
from model_cache.observing.scope import bypass, last_outcome, read_only, record_outcomes, refresh
from model_cache.options.settings import CacheSettings
from model_cache.prediction.veto import do_not_store, set_ttl
from model_cache.protocols import Compressor, Serder
from model_cache.revision import revision_of
from model_cache.wrappers import Cache, CacheInfo, ExplainedCall, Memoized, MemoizedRows

__all__ = [
    "Cache",
    "CacheInfo",
    "CacheSettings",
    "Compressor",
    "ConfigurationError",
    "Difference",
    "ExplainedCall",
    "Explanation",
    "Memoized",
    "MemoizedRows",
    "ModelCacheError",
    "NotCacheableError",
    "Outcome",
    "RedisCachingDecorator",
    "Rounded",
    "Serder",
    "Stats",
    "StoreUnavailableError",
    "bypass",
    "do_not_store",
    "embedded_redis",
    "last_outcome",
    "read_only",
    "record_outcomes",
    "refresh",
    "register_canonical",
    "register_compressor",
    "register_serder",
    "revision_of",
    "set_ttl",
]
__version__ = "0.1.0"
