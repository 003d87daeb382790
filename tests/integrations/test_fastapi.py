"""FastAPI and Starlette: response headers, and the cache control of requests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI, HTTPException, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.routing import Mount, Route

from model_cache import ConfigurationError, RedisCachingDecorator
from model_cache.integrations.fastapi import CacheOutcomeMiddleware, add_model_cache
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.observing.failing import failing
from tests.observing.heard import made, outcome
from tests.servers import Server, free_port
from tests.stored import entries
from tests.web import connected, status

MISS = [{"fwd": "miss", "stored": True}]
HIT = [{"hit": True}]


def service(model: RedisCachingDecorator, **options: Any) -> FastAPI:
    app = FastAPI()
    add_model_cache(app, model, **options)

    @app.post("/sync")
    def sync(data: Person) -> Charges:
        answer: Charges = model.predict(data)
        return answer

    @app.post("/loop")
    async def loop(data: Person) -> Charges:
        answer: Charges = model.predict(data)
        return answer

    @app.post("/thread")
    async def thread(data: Person) -> Charges:
        answer: Charges = await asyncio.to_thread(model.predict, data)
        return answer

    @app.post("/task")
    async def task(data: Person) -> Charges:
        answer: Charges
        (answer,) = await asyncio.gather(asyncio.to_thread(model.predict, data))
        return answer

    @app.post("/many")
    def many(data: list[Person]) -> list[Charges]:
        return [model.predict(one) for one in data]

    @app.get("/nothing")
    def nothing() -> str:
        return "no prediction"

    return app


def body(**changes: Any) -> dict[str, Any]:
    return person(**changes).model_dump(mode="json")


def send(app: Any, *bodies: Any, path: str = "/sync", **more: Any) -> list[httpx.Response]:
    """Send one request after another."""

    async def sending() -> list[httpx.Response]:
        async with connected(app) as client:
            return [await client.post(path, json=json, **more) for json in bodies]

    return asyncio.run(sending())


@pytest.mark.parametrize("path", ["/sync", "/loop", "/thread", "/task"])
def test_a_miss_then_a_hit_wherever_the_prediction_runs(server: Server, path: str) -> None:
    app = service(made(server))
    first, second = send(app, body(), body(), path=path)
    assert (first.headers["x-cache"], status(first)) == ("MISS", MISS)
    assert (second.headers["x-cache"], status(second)) == ("HIT", HIT)
    assert first.headers["cache-status"] == "model-cache; fwd=miss; stored"
    assert first.json() == second.json() == charge(person()).model_dump()


def test_several_predictions_in_one_response(server: Server) -> None:
    app = service(made(server))
    send(app, body())
    (response,) = send(app, [body(), body(age=3)], path="/many")
    assert status(response) == HIT + MISS
    assert response.headers["x-cache"] == "MISS"


def test_no_prediction_no_headers(server: Server) -> None:
    async def asking() -> list[httpx.Response]:
        async with connected(service(made(server))) as client:
            return [await client.get(path) for path in ("/nothing", "/nowhere", "/sync")]

    for response in asyncio.run(asking()):
        assert not {"x-cache", "cache-status"} & set(response.headers)


def test_a_store_that_is_down_and_a_cache_that_is_off(server: Server) -> None:
    down = RedisCachingDecorator(port=free_port()).set_model(FunctionModel())
    (response,) = send(service(down), body())
    assert response.headers["x-cache"] == "BYPASS"
    assert status(response) == [{"fwd": "bypass", "detail": "store-unavailable"}]
    (response,) = send(service(made(server, enabled=False)), body())
    assert response.headers["x-cache"] == "OFF"


def test_a_failing_model(server: Server) -> None:
    app = service(made(server, FunctionModel(function=failing)))

    @app.exception_handler(RuntimeError)
    def handled(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "sorry"}, 500)

    (response,) = send(app, body())
    assert (response.status_code, response.headers["x-cache"]) == (500, "MISS")
    assert status(response) == [{"fwd": "miss", "detail": "model-error"}]


def test_a_refusal_after_a_prediction(server: Server) -> None:
    model = made(server)
    app = service(model)

    @app.post("/refuses")
    def refuses(data: Person) -> Charges:
        model.predict(data)
        raise HTTPException(409)

    (response,) = send(app, body(), path="/refuses")
    assert (response.status_code, status(response)) == (409, MISS)


def test_an_unhandled_error_has_headers_if_the_whole_app_is_wrapped(server: Server) -> None:
    app = service(made(server, FunctionModel(function=failing)), name="inside", client_control=True)
    (response,) = send(app, body())
    assert response.status_code == 500
    assert "x-cache" not in response.headers
    (response,) = send(CacheOutcomeMiddleware(app, name="outside"), body())
    assert response.status_code == 500
    assert response.headers["cache-status"] == "outside; fwd=miss; detail=model-error"
    # The one inside still does what clients ask for.
    (response,) = send(
        CacheOutcomeMiddleware(app), body(), path="/many", headers={"cache-control": "no-store"}
    )
    assert "x-cache" not in response.headers
    wrapped = CacheOutcomeMiddleware(service(made(server), client_control=True))
    (response,) = send(wrapped, body(), headers={"cache-control": "no-store"})
    assert status(response) == [{"fwd": "bypass"}]


def test_the_apps_own_headers_come_first(server: Server) -> None:
    model = made(server)

    async def endpoint(request: Request) -> JSONResponse:
        model.predict(person())
        return JSONResponse({}, headers={"Cache-Status": "origin; hit", "X-Cache": "HIT"})

    app = Starlette(routes=[Route("/", endpoint)])
    add_model_cache(app, model, name="my models")

    async def asking() -> httpx.Response:
        async with connected(app) as client:
            return await client.get("/")

    response = asyncio.run(asking())
    assert response.headers.get_list("cache-status") == [
        "origin; hit",
        '"my models"; fwd=miss; stored',
    ]
    assert response.headers["x-cache"] == "HIT, MISS"


def test_other_middleware_and_mounted_apps(server: Server) -> None:
    """BaseHTTPMiddleware runs what is inside in a task of its own."""
    inner = service(made(server))
    outer = Starlette(routes=[Mount("/models", inner)])

    async def dispatch(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    outer.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    add_model_cache(outer, [], name="outer")
    outer.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    first, second = send(outer, body(), body(), path="/models/sync")
    assert (status(first), status(second)) == (MISS, HIT)
    assert second.headers["cache-status"] == "outer; hit"


def test_a_stream_tells_of_what_was_predicted_before_its_first_byte(server: Server) -> None:
    model = made(server)
    app = service(model)
    outcomes: list[str] = []

    @app.post("/stream")
    async def stream(data: Person) -> StreamingResponse:
        model.predict(data)

        async def lines() -> AsyncIterator[str]:
            for _ in range(3):
                yield model.predict(data).model_dump_json()
                outcomes.append(outcome().kind)

        return StreamingResponse(lines())

    (response,) = send(app, body(), path="/stream")
    assert status(response) == MISS
    assert outcomes == ["hit"] * 3


def test_requests_at_the_same_time_do_not_mix(server: Server) -> None:
    app = service(made(server), client_control=True)
    send(app, body())
    kinds: dict[str, tuple[dict[str, str], list[dict[str, Any]]]] = {
        "hit": ({}, HIT),
        "bypass": ({"cache-control": "no-store"}, [{"fwd": "bypass"}]),
        "refresh": ({"cache-control": "no-cache"}, [{"fwd": "request", "stored": True}]),
        "miss": ({}, MISS),
    }

    async def one(client: httpx.AsyncClient, number: int) -> None:
        kind = list(kinds)[number % 4]
        path = ["/sync", "/thread", "/task", "/loop"][number // 4 % 4]
        # A refresh has an input of its own: one that overtakes another keeps others from hitting.
        data = body(age=1000 + number) if kind in ("miss", "refresh") else body()
        headers, expected = kinds[kind]
        response = await client.post(path, json=data, headers=headers)
        assert status(response) == expected, (number, kind, path)
        assert response.json() == charge(Person(**data)).model_dump()

    async def all_at_once() -> None:
        async with connected(app, raises=True) as client:
            await asyncio.gather(*(one(client, number) for number in range(160)))

    asyncio.run(all_at_once())


def test_clients_have_a_say_only_if_allowed(server: Server, client: redis.Redis) -> None:
    no_store, no_cache = {"cache-control": "no-store"}, {"cache-control": "no-cache"}
    model = made(server)
    app = service(model, client_control=True)
    (response,) = send(app, body(), headers=no_store)
    assert status(response) == [{"fwd": "bypass"}]
    assert response.headers["x-cache"] == "BYPASS"
    assert entries(client) == []
    client.set(model.cache_key(person()), b'{"charges":1.0}')
    (response,) = send(app, body(), headers=no_cache)
    assert status(response) == [{"fwd": "request", "stored": True}]
    assert response.headers["x-cache"] == "MISS"
    assert response.json() == charge(person()).model_dump()
    (response,) = send(app, body(), headers={"cache-control": "max-age=0", "pragma": "no-cache"})
    assert status(response) == HIT
    for headers in (no_store, no_cache):
        (response,) = send(service(model), body(), headers=headers)
        assert status(response) == HIT


def test_websockets_pass_untouched(server: Server) -> None:
    model = made(server)
    app = service(model)
    sent: list[Any] = []

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(model.predict(person()).model_dump_json())
        await websocket.close()

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, keep))
    assert [message["type"] for message in sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert not sent[0].get("headers")


@pytest.mark.parametrize(
    ("app", "models", "options", "message"),
    [
        (None, [], {}, "app"),
        (Starlette(), 3, {}, "models"),
        (Starlette(), 3.0, {}, "models: expected an ml-base model, a Cache, or a list of them"),
        (Starlette(), ["model"], {}, "models: 'model' is neither .*; for what a Cache has wrapped"),
        (Starlette(), [], {"name": "é"}, "name"),
        (Starlette(), [], {"health_path": "health"}, "health_path: expected a path that starts"),
        (Starlette(), [], {"metrics_path": ""}, "metrics_path"),
    ],
)
def test_bad_arguments(app: Any, models: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        add_model_cache(app, models, **options)


@pytest.mark.parametrize("missing", ["starlette", "anyio"])
def test_without_the_extra_the_error_says_how_to_install_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import model_cache.integrations.fastapi"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert 'pip install "ml-model-cache[fastapi]"' in finished.stderr.splitlines()[-1]
