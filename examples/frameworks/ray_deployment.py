"""Ray Serve: the cache is before `@serve.batch`, so that hits don't wait for a batch to fill.

python -m examples.frameworks.ray_deployment
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from starlette.requests import Request

from examples.frameworks.charges import MODEL_FILE, load, table
from model_cache import Cache


@serve.deployment(num_replicas=1)
class Charges:
    def __init__(self) -> None:  # runs in each replica
        self.pipeline = load()
        self.cache = Cache(ttl=86_400)  # at REDIS_URL
        memoize = self.cache.memoize(name="charges", version="1.0.0", revision=[MODEL_FILE])
        self.charges = memoize(self.compute)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.05)
    async def compute(self, people: list[dict[str, Any]]) -> list[float]:
        return self.pipeline.predict(table(people)).tolist()

    async def __call__(self, request: Request) -> float:
        return await self.charges(await request.json())


if __name__ == "__main__":
    serve.start(http_options={"port": int(os.environ.get("PORT", "8000"))})
    serve.run(Charges.bind(), blocking=True)  # type: ignore[attr-defined]  # not seen by mypy
