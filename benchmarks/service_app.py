"""The service for `benchmarks.service`: endpoints that each differ in one thing.

There is a `def` and an `async def` with the cached model, with a near cache in front of it, with a
constant, and with a constant after a bare GET; where `RedisCachingDecorator` has `apredict`, also
an `async def` that awaits it. Each is in an app with the middleware and in one without. One process
serves both apps.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from ml_base.ml_model import MLModel
from starlette.types import Receive, Scope, Send

from benchmarks.cheap_model import CheapModel, inputs
from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
)
from model_cache import RedisCachingDecorator
from model_cache.integrations.fastapi import add_model_cache


class ConstantModel(CheapModel):
    """Answers each input with the same object."""

    _answer = InsuranceChargesModelOutput(charges=9612.64)

    def predict(self, data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:  # noqa: ARG002
        return self._answer


class BareGet(ConstantModel):
    """Waits for the reply to a GET, on one bare socket per thread, then answers."""

    def __init__(self, path: str, key: str) -> None:
        self._path = path
        self._request = f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode()
        self._local = threading.local()

    def predict(self, data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        if not hasattr(self._local, "socket"):
            self._local.socket = socket.socket(socket.AF_UNIX)
            self._local.socket.connect(self._path)
        self._local.socket.sendall(self._request)
        if not self._local.socket.recv(1024).startswith(b"$"):
            raise RuntimeError("the store has no such entry")
        return super().predict(data)


def endpoint(model: MLModel) -> Callable[..., Any]:
    def predict(data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        answer: InsuranceChargesModelOutput = model.predict(data)
        return answer

    return predict


def async_endpoint(model: MLModel) -> Callable[..., Any]:
    async def predict(data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        answer: InsuranceChargesModelOutput = model.predict(data)
        return answer

    return predict


def awaiting_endpoint(model: MLModel) -> Callable[..., Any]:
    async def predict(data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        answer: InsuranceChargesModelOutput = await model.apredict(data)
        return answer

    return predict


def service(prefix: str) -> FastAPI:
    made = FastAPI()
    bare = BareGet(urlsplit(STORE).path, cached.cache_key(data))
    models = {"constant": ConstantModel(), "bare": bare, "cached": cached, "near": near}
    for name, model in models.items():
        made.post(f"/{prefix}/def/{name}")(endpoint(model))
        in_loop = awaiting_endpoint if AWAITS and model is near else async_endpoint
        made.post(f"/{prefix}/async/{name}")(in_loop(model))
    if AWAITS:
        made.post(f"/{prefix}/async/awaited")(awaiting_endpoint(cached))
    return made


STORE = os.environ["BENCHMARK_STORE"]  # on a unix socket
AWAITS = hasattr(RedisCachingDecorator, "apredict")
cached = RedisCachingDecorator(url=STORE, timeout=5.0).set_model(CheapModel())
# Generous, so that every answer stays near during the run.
near = RedisCachingDecorator(url=STORE, timeout=5.0, near_cache=10_000, near_ttl=3600)
near.set_model(CheapModel())
for data in inputs(int(os.environ["BENCHMARK_INPUTS"]), random.Random(1)):
    cached.predict(data)
    near.predict(data)
plain, observed = service("plain"), service("observed")
add_model_cache(observed, [cached, near], health_path="/observed/health")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    is_plain = scope["type"] == "http" and scope["path"].startswith("/plain/")
    await (plain if is_plain else observed)(scope, receive, send)
