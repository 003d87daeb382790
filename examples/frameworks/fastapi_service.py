"""FastAPI: the lifespan opens and closes the cache, and dependencies give it to the endpoints.

uvicorn examples.frameworks.fastapi_service:app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from pydantic import Field
from sklearn.pipeline import Pipeline

from examples.frameworks.charges import Person, load, table
from model_cache import Cache
from model_cache.integrations.fastapi import CacheOutcomeMiddleware

People = Annotated[list[Person], Field(min_length=1)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
    async with Cache(ttl=86_400) as cache:  # at REDIS_URL
        yield {"cache": cache, "model": cache.wrap(load(), name="charges", version="1.0.0")}


def get_cache(request: Request) -> Cache:
    return request.state.cache


def get_model(request: Request) -> Pipeline:
    return request.state.model


app = FastAPI(lifespan=lifespan)
app.add_middleware(CacheOutcomeMiddleware)  # X-Cache and Cache-Status in each response


@app.post("/predict", responses={400: {"description": "The body can't be read."}})
def predict(people: People, model: Annotated[Pipeline, Depends(get_model)]) -> list[float]:
    return model.predict(table(map(dict, people))).tolist()


@app.get("/cache")
def cache_hits(cache: Annotated[Cache, Depends(get_cache)]) -> dict[str, int]:
    return {name: stats.hits for name, stats in cache.stats_by_model().items()}
