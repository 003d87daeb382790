"""Try the installed library with one extra: `python -I trial.py EXTRA URL SERVERS`.

`tests.distribution` runs it in an environment that has only the library and this extra, so it
imports nothing from the checkout. The features of the extra must work. The features of other extras
must fail, with the command that installs them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from ml_base import MLModel
from pydantic import BaseModel

import model_cache
from model_cache import Outcome, RedisCachingDecorator, last_outcome

SECRET = "0123456789abcdef0123456789abcdef"
NOTE = "Charges follow from age and bmi. " * 50
COMMAND = Path(sys.executable).with_name("model-cache")


class Person(BaseModel):
    age: int
    bmi: float


class Charges(BaseModel):
    charges: float
    note: str = NOTE


class ChargesModel(MLModel):  # type: ignore[misc] # ml-base is not typed
    display_name, qualified_name, version = "Charges", "charges_model", "1.0.0"
    description, input_schema, output_schema = "Predicts charges.", Person, Charges

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, data: Person) -> Charges:
        self.calls += 1
        return Charges(charges=250.0 * data.age + 40.0 * data.bmi)


def predicted_twice(url: str, prefix: str = "", **options: Any) -> tuple[Outcome, bytes]:
    """Predict the same input twice; return the second outcome, and the entry as it is in Redis."""
    prefix = prefix or uuid.uuid4().hex
    person, model = Person(age=42, bmi=24.0), ChargesModel()
    with RedisCachingDecorator(url=url, prefix=prefix, timeout=5.0, **options) as cache:
        cache.set_model(model)
        assert cache.predict(person) == cache.predict(person) == Charges(charges=11460.0)
        outcome, key = last_outcome(), cache.cache_key(person)
    assert model.calls == 1
    assert outcome is not None
    assert outcome.kind == "hit"
    if url.startswith("embedded"):
        return outcome, b""
    assert key is not None
    with redis.Redis.from_url(url) as client:
        return outcome, client.get(key) or b""


def embedded(url: str) -> None:
    predicted_twice("embedded://")


def near(url: str) -> None:
    outcome, _ = predicted_twice(url, near_cache=100)
    assert outcome.near


def encryption(url: str) -> None:
    _, entry = predicted_twice(url, encryption_key=SECRET)
    assert entry
    assert b"charges" not in entry


def zstd(url: str) -> None:
    _, entry = predicted_twice(url, use_compression="zstd")
    assert 0 < len(entry) < len(NOTE) / 2


def lz4(url: str) -> None:
    _, entry = predicted_twice(url, use_compression="lz4")
    assert 0 < len(entry) < len(NOTE) / 2


def prometheus(url: str) -> None:
    predicted_twice(url, hooks=["prometheus"])
    from prometheus_client import generate_latest

    labels = 'model="charges_model",outcome="hit",version="1.0.0"'
    assert f"model_cache_predictions_total{{{labels}}} 1.0\n" in generate_latest().decode()


def opentelemetry(url: str) -> None:
    predicted_twice(url, hooks=["opentelemetry"])
    from opentelemetry import trace

    from model_cache.integrations.opentelemetry import OpenTelemetryHook

    spans = []

    class Tracer(trace.NoOpTracer):
        def start_span(self, name: str, *args: Any, **options: Any) -> trace.Span:
            spans.append(name)
            return super().start_span(name, *args, **options)

    class Provider(trace.NoOpTracerProvider):
        def get_tracer(self, *args: Any, **options: Any) -> trace.Tracer:
            return Tracer()

    predicted_twice(url, hooks=[OpenTelemetryHook(Provider())])
    assert spans == ["model_cache.predict"] * 2


def advisor(url: str) -> None:
    from model_cache.advisor import advise

    requests = [Person(age=20 + number % 40, bmi=24.0) for number in range(2_000)]
    advice = advise(ChargesModel(), requests, budget=2.0)
    assert "98.0%" in str(advice)


def cli(url: str) -> None:
    prefix = uuid.uuid4().hex
    predicted_twice(url, prefix)
    for arguments in (["--help"], ["inspect", "--prefix", prefix]):
        words, environment = [str(COMMAND), *arguments], {"REDIS_URL": url}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
    assert f"charges_model 1.0.0 (prefix {prefix})\n  1 entry" in done.stdout, done.stdout


def fastapi(url: str) -> None:
    from model_cache.integrations.fastapi import add_model_cache  # says how to install fastapi

    # isort: split
    from fastapi import FastAPI

    with RedisCachingDecorator(url=url, prefix=uuid.uuid4().hex, timeout=5.0) as cache:
        app = FastAPI()
        add_model_cache(app, cache.set_model(ChargesModel()))
        app.get("/")(lambda: cache.predict(Person(age=42, bmi=24.0)))
        replies = [asyncio.run(replied(app)) for _ in range(2)]
    assert [dict(reply["headers"])[b"x-cache"] for reply in replies] == [b"MISS", b"HIT"]
    assert [reply["status"] for reply in replies] == [200, 200]


async def replied(app: Any) -> dict[str, Any]:
    """Return the first message of an ASGI app's reply to a GET request."""
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return messages[0]


TRIALS: dict[str, Callable[[str], None]] = {
    function.__name__: function
    for function in (
        *(embedded, fastapi, near, encryption, zstd, lz4),
        *(prometheus, opentelemetry, advisor, cli),
    )
}


def refusal(extra: str, url: str) -> str | None:
    """Return what the library says when this extra is used; None if it works."""
    try:
        TRIALS[extra](url)
    except Exception as error:
        return repr(error)
    return None


def main(extra: str, url: str, servers: str) -> None:
    """Try an extra, and that the others are missing."""
    assert Path(model_cache.__file__).is_relative_to(sys.prefix), model_cache.__file__
    predicted_twice(url)
    for other in TRIALS.keys() - {extra}:
        message = refusal(other, url)
        if message is None and extra != "none":
            continue  # one extra may bring what another one needs
        assert f'pip install "ml-model-cache[{other}]"' in str(message), (other, message)
    if extra == "advisor":  # it measures a server, which may be on PATH instead of in an extra
        os.environ["PATH"] = servers
    if extra in TRIALS:
        TRIALS[extra](url)


if __name__ == "__main__":
    main(*sys.argv[1:])
