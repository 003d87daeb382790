"""The image API: the routes and the handling of a request.

uvicorn --factory examples.image_service.app:create_app
gunicorn --config examples/image_service/gunicorn.conf.py
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI, Request
from ml_base.ml_model import MLModel
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from examples.image_service.images import (
    BadImageError,
    TooManyPixelsError,
    UnsupportedFormatError,
)
from examples.image_service.model import BusyError, ImageInput, ImageText, OcrModel
from examples.image_service.openapi import REQUEST_BODY, RESPONSES
from examples.image_service.settings import Settings
from examples.image_service.uploads import Upload, read_upload
from model_cache import Outcome, RedisCachingDecorator, StoreUnavailableError, last_outcome
from model_cache.integrations.fastapi import CacheOutcomeMiddleware

logger = logging.getLogger("image_service")
router = APIRouter()

_LATER = {"Retry-After": "1"}
_ANSWERED_BY_THE_CACHE = ("hit", "shared", "stale")


class Answer(BaseModel):
    """The response to a prediction."""

    job_id: str = Field(description="Six characters that also appear in the log.")
    file_path: str
    cache: str = Field(description='"hit", "miss", or why the cache was not used.')
    elapsed_ms: float
    prediction: ImageText


class Health(BaseModel):
    """The state of the whole service; without Redis it is slower but just as correct."""

    status: Literal["ok", "degraded"]
    service: Literal["ok"] = "ok"
    model: Literal["ok"] = "ok"
    redis: Literal["ok", "down", "off"]


class _Slots:
    """Limits how many requests are in a `with` block at once.

    Raises:
        HTTPException: 503, if the limit is reached.
    """

    def __init__(self, most: int, refusal: str) -> None:
        self._free = most
        self._refusal = refusal

    def __enter__(self) -> None:
        if not self._free:
            raise HTTPException(503, self._refusal, _LATER)
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1


class Predictor:
    """The model behind its cache, for as long as the app runs.

    Args:
        cache: the decorator around the model.
        settings: the limits for requests and uploads.
    """

    def __init__(self, cache: RedisCachingDecorator, settings: Settings) -> None:
        self.cache = cache
        self.settings = settings
        self.requests = _Slots(settings.max_requests, "too many requests at once")
        self.uploads = _Slots(settings.max_uploads, "too many uploads at once")
        # As many threads as requests, so that no hit waits for the OCR of another request.
        self._threads = CapacityLimiter(settings.max_requests)

    async def predict(self, content: bytes) -> tuple[ImageText, Outcome]:
        """Return the text in an image, and the outcome of the prediction."""
        # The model is CPU-bound: on the event loop it would block all other requests.
        return await to_thread.run_sync(self._predict, content, limiter=self._threads)

    def _predict(self, content: bytes) -> tuple[ImageText, Outcome]:
        prediction = self.cache.predict(ImageInput(content=content))
        outcome = last_outcome()  # called in the thread that predicted
        assert outcome is not None
        return prediction, outcome

    def redis(self) -> Literal["ok", "down", "off"]:
        """Return the state of Redis."""
        try:
            self.cache.ping()
            return "off" if self.cache.stats().store == "off" else "ok"
        except StoreUnavailableError:
            return "down"


def create_app(
    settings: Settings | None = None, make_model: Callable[[Settings], MLModel] | None = None
) -> FastAPI:
    """Return the app.

    Args:
        settings: the settings; None to read them from the environment.
        make_model: creates another model with the same schemas, instead of the OCR model.
    """
    chosen = settings or Settings.from_environment(os.environ)
    # Has no effect under gunicorn, whose configuration sets up logging.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Here, in the worker: sessions of onnxruntime do not survive a fork.
        model = (make_model or _ocr_model)(chosen)
        with RedisCachingDecorator(
            url=chosen.redis_url,
            password=chosen.redis_password,
            prefix="images",
            ttl=chosen.cache_ttl,
            timeout=chosen.cache_timeout,
            revision=getattr(model, "revision", None),
            write="background",  # after the response
        ).set_model(model) as cache:
            app.state.predictor = Predictor(cache, chosen)
            yield

    app = FastAPI(
        title="Image Service",
        description="Reads the text in images and caches the results in Redis.",
        version=OcrModel.version,
        lifespan=lifespan,
    )
    app.add_middleware(CacheOutcomeMiddleware)  # X-Cache, for proxies and people
    app.include_router(router)
    return app


def _ocr_model(settings: Settings) -> MLModel:
    return OcrModel(max_pixels=settings.max_pixels)


@router.get("/")
async def root(request: Request) -> dict[str, str]:
    """Describe the service and where to go next."""
    return {"service": request.app.title, "version": request.app.version, "docs": "/docs"}


@router.get("/health")
def health(request: Request) -> Health:
    """Report on the service, the model and Redis. Do not restart it when "degraded"."""
    redis = _predictor(request).redis()
    return Health(status="degraded" if redis == "down" else "ok", redis=redis)


@router.get("/metadata")
async def metadata(request: Request) -> dict[str, Any]:
    """Describe the model."""
    model = _predictor(request).cache
    return {
        "display_name": model.display_name,
        "qualified_name": model.qualified_name,
        "version": model.version,
        "revision": getattr(model, "revision", None),
        "description": model.description,
        "input_schema": model.input_schema.model_json_schema(),
        "output_schema": model.output_schema.model_json_schema(),
    }


@router.post("/predict", openapi_extra={"requestBody": REQUEST_BODY}, responses=RESPONSES)
async def predict(request: Request) -> Answer:
    """Read the text in an image. The same bytes are read only once, under any name."""
    predictor = _predictor(request)
    job_id, began = secrets.token_hex(3), time.perf_counter()

    def elapsed_ms() -> float:
        return 1000 * (time.perf_counter() - began)

    logger.info("predict START job_id=%s", job_id)
    try:
        with predictor.uploads:
            upload = await _receive(request, predictor.settings)
        with predictor.requests:
            prediction, outcome = await _predict(predictor, upload, job_id)
        return Answer(
            job_id=job_id,
            file_path=upload.name,
            cache=outcome.kind,
            elapsed_ms=round(elapsed_ms(), 3),
            prediction=prediction,
        )
    except HTTPException as error:
        logger.info("predict REFUSED job_id=%s, %d: %s", job_id, error.status_code, error.detail)
        raise
    finally:
        logger.info("predict END job_id=%s, elapsed_time [ms]=%.5f", job_id, elapsed_ms())


async def _receive(request: Request, settings: Settings) -> Upload:
    seconds = settings.body_seconds
    try:
        async with asyncio.timeout(seconds):
            return await read_upload(request, settings.max_body_bytes)
    except TimeoutError:
        raise HTTPException(408, f"the request took longer than {seconds:g} s to send") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client disconnected during the upload") from None


async def _predict(predictor: Predictor, upload: Upload, job_id: str) -> tuple[ImageText, Outcome]:
    try:
        prediction, outcome = await predictor.predict(upload.content)
    except BadImageError as error:
        raise HTTPException(_status_of(error), str(error)) from None
    except BusyError as error:
        raise HTTPException(503, str(error), _LATER) from None
    except Exception:
        logger.exception("predict FAILED job_id=%s", job_id)
        raise HTTPException(500, f"the model failed; see job {job_id} in the log") from None
    if outcome.kind in _ANSWERED_BY_THE_CACHE:
        logger.info("cache hit: %s", upload.name)
    elif outcome.fate in ("queued", "stored"):
        logger.info("registering cache: %s", upload.name)
    return prediction, outcome


def _status_of(error: BadImageError) -> int:
    match error:
        case UnsupportedFormatError():
            return 415
        case TooManyPixelsError():
            return 413
        case _:
            return 422


def _predictor(request: Request) -> Predictor:
    predictor: Predictor = request.app.state.predictor
    return predictor
