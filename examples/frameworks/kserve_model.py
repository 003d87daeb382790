"""KServe: the cache is inside `Model.predict`.

python -m examples.frameworks.kserve_model --http_port 8080
"""

from __future__ import annotations

import asyncio
from typing import Any

from kserve import Model, ModelServer

from examples.frameworks.charges import load, table
from model_cache import Cache


class Charges(Model):
    def __init__(self, cache: Cache) -> None:
        super().__init__("charges")
        self.cache = cache
        self.load()

    def load(self) -> bool:
        self.model = self.cache.wrap(load(), name="charges", version="1.0.0")
        self.ready = True
        return True

    async def predict(self, payload: dict[str, Any], *_: Any, **__: Any) -> dict[str, list[float]]:
        people = table(payload["instances"])
        charges = await asyncio.to_thread(self.model.predict, people)  # the event loop goes on
        return {"predictions": charges.tolist()}


if __name__ == "__main__":
    with Cache(ttl=86_400) as cache:  # at REDIS_URL
        ModelServer().start([Charges(cache)])
