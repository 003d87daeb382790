"""Operating a service: closing, health, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route

from model_cache import Cache, ConfigurationError, RedisCachingDecorator
from model_cache.integrations.fastapi import (
    add_model_cache,
    caches_in,
    closing,
    health,
    managed_models,
)
from tests.checkout import IMPORTS
from tests.models import FunctionModel, person
from tests.observing.heard import made
from tests.servers import Server, free_port, running_server
from tests.stored import entries
from tests.waiting import poll
from tests.web import Outside, connected


class Closes(RedisCachingDecorator):
    """Notes on which thread it is closed, and fails then if told to."""

    def __init__(self, log: list[Any], **options: Any) -> None:
        super().__init__(**options)
        self.__dict__["log"] = log

    def close(self) -> None:
        self.__dict__["log"].append(threading.current_thread())
        super().close()
        if self._config.prefix == "fails":
            raise OSError("disk full")


async def run_lifespan(app: Any) -> None:
    async with app.router.lifespan_context(app):
        pass


def test_it_closes_after_the_apps_own_lifespan_off_the_event_loop(server: Server) -> None:
    log: list[Any] = []

    @contextlib.asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, int]]:
        log.append("up")
        yield {"answer": 42}
        log.append("down")

    app = FastAPI(lifespan=own)
    add_model_cache(app, [Closes(log, url=server.url).set_model(FunctionModel())])
    app.include_router(APIRouter())  # which merges lifespans

    async def run() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state == {"answer": 42}

    asyncio.run(run())
    assert log[:2] == ["up", "down"]
    assert log[2] is not threading.current_thread()
    assert len(log) == 3


def test_an_error_in_one_cache_does_not_stop_the_others_from_closing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[Any] = []
    models = [Closes(log, url=server.url, prefix=name) for name in ("fails", "good")]
    app = FastAPI(lifespan=closing(models))
    asyncio.run(run_lifespan(app))
    assert len(log) == 2
    assert "disk full" in caplog.text

    def nowhere() -> list[Any]:
        raise LookupError("no models")

    asyncio.run(run_lifespan(FastAPI(lifespan=closing(nowhere))))
    assert "no models" in caplog.text


def test_it_closes_when_the_app_fails_to_start(server: Server) -> None:
    log: list[Any] = []

    @contextlib.asynccontextmanager
    async def own(app: Any) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    app = FastAPI(lifespan=closing(Closes(log, url=server.url), own))
    with pytest.raises(RuntimeError, match="no database"):
        asyncio.run(run_lifespan(app))
    assert len(log) == 1


def test_closing_writes_what_waits(server: Server, client: redis.Redis) -> None:
    model = made(server, write="background")
    app = FastAPI()
    add_model_cache(app, lambda: [model])

    async def run() -> None:
        async with app.router.lifespan_context(app):
            for age in range(50):
                model.predict(person(age=age))

    asyncio.run(run())
    assert len(entries(client)) == 50


def test_caches_are_found_in_stacks_and_counted_once(server: Server) -> None:
    first, second = made(server), made(server, prefix="other")
    stack = Outside().set_model(first)
    plain = FunctionModel()
    unbound = RedisCachingDecorator(url=server.url)
    assert caches_in([stack, second, first, plain, unbound]) == [first, second, unbound]
    assert caches_in(stack) == [first]
    late: list[Any] = []
    app = FastAPI()
    add_model_cache(app, lambda: late, health_path="/health")
    late.append(Outside().set_model(second))
    assert len(get(app, "/health").json()["caches"]) == 1


def get(app: Any, path: str) -> httpx.Response:
    async def asking() -> httpx.Response:
        async with connected(app) as client:
            return await client.get(path)

    return asyncio.run(asking())


class Anything(BaseRoute):
    def matches(self, scope: Any) -> tuple[Match, dict[str, Any]]:
        return Match.FULL, {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError


@pytest.mark.parametrize("model_cache_first", [True, False])
@pytest.mark.parametrize("kind", [FastAPI, Starlette])
@pytest.mark.parametrize(
    "catching_all",
    [Mount("/", Starlette()), Mount("/", FastAPI()), Route("/{path:path}", Response), Anything()],
)
def test_its_paths_are_reached_next_to_catch_all_routes(
    kind: type[Starlette], catching_all: BaseRoute, model_cache_first: bool
) -> None:
    app = kind()
    if not model_cache_first:
        app.router.routes.append(catching_all)
    add_model_cache(app, [], health_path="/health", metrics_path="/a/metrics")
    if model_cache_first:
        app.router.routes.append(catching_all)
    assert get(app, "/health").json() == {"status": "ok", "caches": []}
    assert "# HELP" in get(app, "/a/metrics").text


def test_a_path_that_the_app_serves_already_is_refused() -> None:
    app = FastAPI()
    router = APIRouter()
    router.add_api_route("/cache", lambda: None)
    app.include_router(router, prefix="/health")
    app.add_api_route("/metrics", lambda: None)
    app.add_api_route("/health", lambda: None, methods=["POST"])
    for option, path in (("health_path", "/health/cache"), ("metrics_path", "/metrics")):
        with pytest.raises(
            ConfigurationError, match=f"{option}: the app already has a route for '{path}'"
        ):
            add_model_cache(app, [], **{option: path})  # type: ignore[arg-type]
    assert not app.user_middleware
    add_model_cache(app, [], health_path="/health")
    assert get(app, "/health").json() == {"status": "ok", "caches": []}


def test_health_reports_each_cache(server: Server) -> None:
    model = made(server)
    app = FastAPI()
    add_model_cache(
        app, [model, made(server, enabled=False, prefix="off")], health_path="/health/cache"
    )
    for _ in range(4):
        model.predict(person())
    response = get(app, "/health/cache")
    assert response.status_code == 200
    answer = response.json()
    assert answer["status"] == "ok"
    on, off = answer["caches"]
    assert on.pop("seconds_saved") == model.stats().seconds_saved
    assert on == {
        "model": "test_model",
        "version": "1.0.0",
        "store": "closed",
        "store_error": None,
        "predictions": 4,
        "hits": 3,
        "misses": 1,
        "hit_ratio": 0.75,
    }
    assert off["store"] == "off"
    assert "/health/cache" not in app.openapi()["paths"]


def test_health_is_degraded_without_the_store_and_shows_no_secrets() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    model = RedisCachingDecorator(url=url).set_model(FunctionModel())
    app = FastAPI()
    add_model_cache(app, [model, RedisCachingDecorator(url=url)], health_path="/health")
    # On a slow machine, the second finds that it is time to probe.
    for errors, state in ((["connection"], "closed"), (["circuit_open", "connection"], "open")):
        response = get(app, "/health")
        assert response.status_code == 200
        answer = response.json()
        assert answer["status"] == "degraded"
        first, unbound = answer["caches"]
        assert first["store_error"] in errors
        assert first["store"] == state
        assert (unbound["model"], unbound["store_error"]) == (None, None)
        assert "secret" not in response.text
        for _ in range(4):
            model.predict(person())


def test_health_finds_a_store_that_comes_and_goes() -> None:
    with running_server() as server:
        model = made(server)
        assert health(model)["status"] == "ok"
        server.kill()
        assert health(model)["status"] == "degraded"
        server.start()
        poll(lambda: health(model)["status"] == "ok", seconds=30)  # without a prediction


def test_the_health_of_a_cache_is_that_of_what_it_has_wrapped(server: Server) -> None:
    cache = Cache(server.url)
    assert [each["model"] for each in health(cache)["caches"]] == [None]
    double = cache.memoize(version="1.0.0", name="a/b")(lambda x: 2 * x)
    model = cache.model(FunctionModel())
    for _ in range(2):
        double(1)
    model.predict(person())
    found = {(each["model"], each["version"]): each for each in health([cache])["caches"]}
    assert found["a/b", "1.0.0"]["hits"] == 1
    assert found["test_model", "1.0.0"]["misses"] == 1


def test_an_app_closes_a_cache(server: Server, client: redis.Redis) -> None:
    cache = Cache(server.url, write="background")
    double = cache.memoize(version="1.0.0")(lambda x: 2 * x)
    app = FastAPI()
    add_model_cache(app, lambda: [cache])

    async def run() -> None:
        async with app.router.lifespan_context(app):
            for number in range(50):
                double(number)

    asyncio.run(run())
    assert len(entries(client)) == 50


def test_metrics_are_served(server: Server) -> None:
    model = made(server, hooks=["prometheus"])
    app = FastAPI()
    add_model_cache(app, model, metrics_path="/metrics")
    model.predict(person())
    response = get(app, "/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(("text/plain", "application/openmetrics"))
    assert 'model="test_model"' in response.text


def test_managed_models_are_those_of_the_model_manager(server: Server) -> None:
    code = (
        "from ml_base.utilities import ModelManager\n"
        "from model_cache import RedisCachingDecorator\n"
        "from model_cache.integrations.fastapi import caches_in, managed_models\n"
        "from tests.models import FunctionModel\n"
        "assert caches_in(managed_models) == []\n"
        "ModelManager().add_model(FunctionModel())\n"
        "ModelManager().add_decorator('test_model', RedisCachingDecorator())\n"
        "print(caches_in(managed_models))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": IMPORTS},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.startswith("[RedisCachingDecorator(")
    assert managed_models() == []
