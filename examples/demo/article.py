"""The article's published numbers, and its cache, rewritten for comparison with ours.

The cache's key ignores which value belongs to which field. It is for comparison only: do not use
it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import redis
from ml_base import MLModelDecorator
from pydantic import BaseModel


@dataclass(frozen=True)
class Published:
    """The article's numbers for one format: milliseconds per prediction, and bytes per value."""

    cold_ms: float
    warm_ms: float
    value_bytes: float


MODEL_MS = 33.307
"""Milliseconds per prediction of the model alone."""

PUBLISHED = {
    "JSON": Published(35.530, 0.894, 20.61),
    "MessagePack": Published(35.817, 0.927, 18.00),
    "JSON + snappy": Published(35.559, 0.853, 22.61),
}
"""By format; the article did not try MessagePack with compression."""

ENTRIES = 9_430
"""Entries after 10,000 requests with bmi rounded to 0 places."""


def article_key(data: BaseModel) -> int:
    """Return the article's hash of an input: the set of its fields, and the set of its values.

    Sets have no order, so inputs with the same values in other fields share a key. The hash of a
    str differs between processes, so no two processes share a cache.
    """
    fields = data.model_dump()
    return hash((frozenset(fields.keys()), frozenset(fields.values())))


class ArticleCache(MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """The article's decorator with JSON, ported to pydantic 2.

    One thing is fixed: it rounds a copy, where the article's rounds the caller's own object.

    Args:
        url: the url of Redis.
        prefix: put in front of each key.
        reduced_precision_fields: fields that are rounded for the key and for the model.
        number_of_places: how many decimal places to round to.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        reduced_precision_fields: list[str] | None = None,
        number_of_places: int | None = None,
    ) -> None:
        super().__init__(
            prefix=prefix,
            reduced_precision_fields=reduced_precision_fields or [],
            number_of_places=number_of_places,
        )
        # Through __dict__, since ml-base forwards attribute writes to the model.
        self.__dict__["_redis_client"] = redis.Redis.from_url(url)

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the prediction cached under the article's key, or else the model's."""
        options, model, client = self._configuration, self._model, self._redis_client
        places = options["number_of_places"]
        fields = options["reduced_precision_fields"]
        if fields:
            rounded = {name: round(getattr(data, name), places) for name in fields}
            data = data.model_copy(update=rounded)

        key = f"{options['prefix']}/{model.qualified_name}/{model.version}/{article_key(data)}"
        entry: bytes | None = client.get(key)
        if entry is not None:
            cached: BaseModel = model.output_schema(**json.loads(entry.decode()))
            return cached
        prediction: BaseModel = model.predict(data)
        client.set(key, json.dumps(prediction.model_dump()).encode())
        return prediction

    def close(self) -> None:
        """Close the connections."""
        client: Any = self._redis_client
        client.close()
