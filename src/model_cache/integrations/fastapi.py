"""Support for FastAPI and Starlette: outcome headers, shutdown, health and metrics.

`add_model_cache` sets up everything in one call; the parts can also be used on their own. The
headers themselves are built in `http_caching`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, TypeAlias
from uuid import uuid4

from ml_base.ml_model import MLModel
from ml_base.utilities import ModelManager

from model_cache.binding.decorators import layers
from model_cache.decorator import RedisCachingDecorator
from model_cache.errors import ConfigurationError, ModelCacheError, StoreUnavailableError
from model_cache.integrations.http_caching import cache_name, cache_status, requested, x_cache
from model_cache.observing.counters import Stats
from model_cache.observing.scope import bypass, record_outcomes, refresh
from model_cache.wrappers.cache import Cache

try:
    from anyio import create_task_group
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import BaseRoute, Match, Route
    from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send
except ImportError as error:
    raise ImportError(
        "model_cache.integrations.fastapi needs an extra; install it with: "
        'pip install "ml-model-cache[fastapi]"'
    ) from error

logger = logging.getLogger("model_cache")

# Set in an ASGI scope when an outer middleware already adds the headers.
_IS_REPORTED = "model_cache.is_reported"

Models: TypeAlias = (
    MLModel | Cache | Collection[MLModel | Cache] | Callable[[], Collection[MLModel | Cache]]
)
"""A model or a `Cache`, several of them, or a function that returns them, for services that build
them late.

Caches are found anywhere in a stack of decorators; models without a cache are ignored.
"""


def add_model_cache(
    app: Starlette,
    models: Models,
    *,
    client_control: bool = False,
    name: str = "model-cache",
    health_path: str | None = None,
    metrics_path: str | None = None,
) -> None:
    """Add outcome headers to an app's responses, and close the caches when it shuts down.

    Call it once, before the app starts. The framework creates its response to an unhandled
    exception outside an app's middleware, so that response lacks the headers. To include them,
    serve `CacheOutcomeMiddleware(app)`.

    Args:
        app: a FastAPI or Starlette app.
        models: the cached models, or the `Cache` of functions and estimators.
        client_control: whether to honour `Cache-Control: no-cache` (recompute and store) and
            `no-store` (bypass the cache) in requests; each such request costs a model call.
        name: the name of the cache in `Cache-Status`.
        health_path: the path that serves `health` as JSON; None for no such route.
        metrics_path: the same for Prometheus metrics, if models have `hooks=["prometheus"]`.

    Both routes take precedence over the app's mounts and over its routes with parameters that
    would match the same path.

    Raises:
        ConfigurationError: an argument is invalid, or one of the paths already has a route.
    """
    if not isinstance(app, Starlette):
        raise ConfigurationError("app", f"expected a FastAPI or Starlette app, got {app!r}")
    if isinstance(models, MLModel) or not callable(models):
        caches_in(models)  # raises now if one of them is neither a model nor a Cache
    cache_name(name)
    routes = _routes(app, models, health_path=health_path, metrics_path=metrics_path)
    app.add_middleware(CacheOutcomeMiddleware, client_control=client_control, name=name)
    app.router.lifespan_context = closing(models, app.router.lifespan_context)
    for place, route in routes:
        app.router.routes.insert(place, route)


def _routes(
    app: Starlette, models: Models, *, health_path: str | None, metrics_path: str | None
) -> list[tuple[int, Route]]:
    """Return the routes to add, each with its position among the app's routes."""
    paths = {"health_path": health_path, "metrics_path": metrics_path}
    routes: list[tuple[int, Route]] = []
    for option, path in paths.items():
        if path is None:
            continue
        if not path.startswith("/"):
            raise ConfigurationError(option, f"expected a path that starts with '/', got {path!r}")
        endpoint = _healthy(models) if option == "health_path" else _metrics()
        place = _place_for(option, path, app)
        routes.append((place, Route(path, endpoint, include_in_schema=False)))
    return routes


def _place_for(option: str, path: str, app: Starlette) -> int:
    """Return the position among the app's routes at which a route for a path is reached.

    That is before a mount at `/`, for example, or before `/{page}`, which would match first.
    """
    sibling = f"{path.rpartition('/')[0]}/{uuid4()}"
    for place, route in enumerate(app.router.routes):
        if _takes(route, path):
            if _takes(route, sibling):
                return place
            raise ConfigurationError(option, f"the app already has a route for {path!r}")
    return len(app.router.routes)


def _takes(route: BaseRoute, path: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return route.matches(scope)[0] is Match.FULL


class CacheOutcomeMiddleware:
    """ASGI middleware that adds `Cache-Status` (RFC 9211) and `X-Cache` to responses.

    The headers cover the predictions made before the first byte of the response, in the event loop
    or in threads that run in the request's context, as the framework's thread pool and
    `asyncio.to_thread` do. A response without a prediction gets neither. Headers of the same name
    that the app sets come first, as those of a cache closer to the origin. If several of these
    middlewares are nested, the outermost adds the headers, and each applies its `client_control`.

    Args:
        app: the inner ASGI app.
        client_control: whether to honour `Cache-Control: no-cache` and `no-store` in requests.
        name: the name of the cache in `Cache-Status`.

    Raises:
        ConfigurationError: the name can't be written in a header.
    """

    def __init__(
        self, app: ASGIApp, *, client_control: bool = False, name: str = "model-cache"
    ) -> None:
        self._app = app
        self._client_control = client_control
        self._name = cache_name(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._as_requested(scope):
            if _IS_REPORTED in scope:
                await self._app(scope, receive, send)
                return
            # Not a copy: outer middleware may read what the app leaves in the scope.
            scope[_IS_REPORTED] = True
            try:
                await self._report(scope, receive, send)
            finally:
                del scope[_IS_REPORTED]  # a retry uses the same scope

    async def _report(self, scope: Scope, receive: Receive, send: Send) -> None:
        with record_outcomes() as outcomes:

            async def send_with_outcome(message: Message) -> None:
                if message["type"] == "http.response.start" and outcomes:
                    made = list(outcomes)  # other threads may still add predictions
                    message = {
                        **message,
                        "headers": [
                            *message.get("headers", ()),
                            (b"cache-status", cache_status(made, self._name).encode()),
                            (b"x-cache", x_cache(made).encode()),
                        ],
                    }
                await send(message)

            await self._app(scope, receive, send_with_outcome)

    def _as_requested(self, scope: Scope) -> AbstractContextManager[None]:
        if self._client_control:
            values = [value for name, value in scope["headers"] if name == b"cache-control"]
            match requested(values):
                case "bypass":
                    return bypass()
                case "refresh":
                    return refresh()
        return nullcontext()


def closing(models: Models, lifespan: Lifespan[Any] | None = None) -> Lifespan[Any]:
    """Return a lifespan that closes the caches after the app's own lifespan.

    Closing finishes the background writes; then the Prometheus hook counts its pending events,
    since uvicorn ends its process with a signal, which skips `atexit`. It does not block the event
    loop, and takes a few seconds at most. Errors are logged and do not stop the shutdown.

    Args:
        models: the cached models.
        lifespan: the app's own lifespan, if any.
    """

    @asynccontextmanager
    async def lifespan_that_closes(app: Any) -> AsyncIterator[Any]:
        try:
            async with nullcontext() if lifespan is None else lifespan(app) as state:
                yield state
        finally:
            await _close(models)
            if hook := sys.modules.get("model_cache.integrations.prometheus"):
                await run_in_threadpool(hook.count_all)

    return lifespan_that_closes


async def _close(models: Models) -> None:
    try:
        found = caches_in(models)
    except Exception:
        logger.exception("Caches not closed because they were not found")
        return
    async with create_task_group() as group:
        for found_cache in found:
            group.start_soon(_close_one, found_cache)


async def _close_one(cache: RedisCachingDecorator | Cache) -> None:
    try:
        await cache.aclose()
    except Exception:
        logger.exception("Closing %r failed", cache)


def health(models: Models) -> dict[str, Any]:
    """Return the health of the caches, ready for JSON; pings each store within its `timeout`.

    Args:
        models: the cached models.

    Returns:
        "status": "degraded" if a store does not answer or its circuit is open, so that the models
        predict without it; else "ok". "caches": for each cached model, its "model" and "version"
        (None before there is one);
        "store", the circuit breaker's state (see `Stats`); "store_error", why the store did not
        answer, as one word, or None; and, counted in this process, "predictions", "hits",
        "misses", "hit_ratio" and "seconds_saved".
    """
    found = [each for cache in caches_in(models) for each in _health(cache)]
    is_well = all(one["store"] in ("closed", "off") and not one["store_error"] for one in found)
    return {"status": "ok" if is_well else "degraded", "caches": found}


def _health(cache: RedisCachingDecorator | Cache) -> list[dict[str, Any]]:
    store_error = None
    try:
        cache.ping()
    except StoreUnavailableError as error:
        store_error = error.kind
    except ModelCacheError:
        pass  # no model is set
    counted = cache.stats_by_version() if isinstance(cache, Cache) else {}
    if counted:
        return [
            _one_health(name, version, stats, store_error)
            for (name, version), stats in counted.items()
        ]
    name, version = (getattr(cache, each, None) for each in ("qualified_name", "version"))
    return [_one_health(name, version, cache.stats(), store_error)]


def _one_health(
    name: str | None, version: str | None, stats: Stats, store_error: str | None
) -> dict[str, Any]:
    return {
        "model": name,
        "version": version,
        "store": stats.store,
        "store_error": store_error,
        "predictions": stats.predictions,
        "hits": stats.hits,
        "misses": stats.misses,
        "hit_ratio": stats.hit_ratio,
        "seconds_saved": stats.seconds_saved,
    }


def caches_in(models: Models) -> list[RedisCachingDecorator | Cache]:
    """Return the caches among models and their decorators, each once.

    Raises:
        ConfigurationError: one of them is neither a model nor a `Cache`.
    """
    if isinstance(models, (MLModel, Cache)):
        models = [models]
    given = models() if callable(models) else models
    if not isinstance(given, Collection):
        raise ConfigurationError(
            "models", f"expected an ml-base model, a Cache, or a list of them, got {given!r}"
        )
    caches: dict[int, RedisCachingDecorator | Cache] = {}
    for model in given:
        if not isinstance(model, (MLModel, Cache)):
            raise ConfigurationError(
                "models",
                f"{model!r} is neither an ml-base MLModel nor a Cache; for what a Cache has "
                "wrapped, pass the Cache",
            )
        for layer in [model] if isinstance(model, Cache) else layers(model):
            if isinstance(layer, (RedisCachingDecorator, Cache)):
                caches[id(layer)] = layer
    return list(caches.values())


def managed_models() -> list[MLModel]:
    """Return the models in ml-base's `ModelManager`, where rest_model_service registers them."""
    manager = ModelManager()
    found = []
    for details in manager.get_models():
        with suppress(ValueError):  # the model is being decorated
            found.append(manager.get_model(details["qualified_name"]))
    return found


def _healthy(models: Models) -> Callable[[Request], Response]:
    # Not a coroutine, so it runs in the thread pool and does not block the event loop.
    return lambda _: JSONResponse(health(models))


def _metrics() -> Callable[[Request], Response]:
    from model_cache.integrations.prometheus import exposition

    def metrics(_: Request) -> Response:
        body, content_type = exposition()
        return Response(body, headers={"content-type": content_type})

    return metrics
