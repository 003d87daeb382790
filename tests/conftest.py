"""Fixtures: one real server per session, emptied for each test that uses it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, settings

from model_cache import RedisCachingDecorator
from model_cache.prediction.barrier import _barriers
from tests.patience import DEFAULTS, PATIENT
from tests.servers import Server, running_server

settings.register_profile(
    "short",
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("short"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """Undo what a shell does to jobs in its background, whose children would inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_outside_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("MODEL_CACHE_DISABLED", raising=False)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in PATIENT.items():
        monkeypatch.setitem(DEFAULTS, option, value)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    with shared_server.client() as client:
        client.flushall()
    _barriers.clear()  # the decorators of other tests, still alive, know generations
    return shared_server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def decorator(server: Server) -> Iterator[RedisCachingDecorator]:
    with RedisCachingDecorator(url=server.url, timeout=1.0) as decorator:
        yield decorator
