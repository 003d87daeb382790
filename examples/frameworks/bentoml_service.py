"""BentoML: the cache is inside the API method.

bentoml serve examples.frameworks.bentoml_service:Charges
"""

from __future__ import annotations

import bentoml

from examples.frameworks.charges import Person, load, table
from model_cache import Cache


@bentoml.service(workers=2)
class Charges:
    def __init__(self) -> None:  # runs in each worker
        self.cache = Cache(ttl=86_400)  # at REDIS_URL
        self.model = self.cache.wrap(load(), name="charges", version="1.0.0")

    @bentoml.api
    def predict(self, people: list[Person]) -> list[float]:
        return self.model.predict(table(map(dict, people))).tolist()

    @bentoml.on_shutdown
    def close(self) -> None:
        self.cache.close()
