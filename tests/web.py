"""Requests to apps without a network, and services in their own processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
from http_sf import parse
from ml_base import MLModelDecorator

from tests.checkout import IMPORTS
from tests.services import Service


class Outside(MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """A decorator around the cache."""


@contextlib.asynccontextmanager
async def connected(app: Any, *, raises: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an ASGI app; without `raises`, what the app raises is a response, too."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=raises)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


def members(header: str) -> list[tuple[str, dict[str, Any]]]:
    """The name and the parameters of each member of a Cache-Status."""
    parsed: Any = parse(header.encode(), tltype="list")
    return [
        (str(name), {key: value if value is True else str(value) for key, value in more.items()})
        for name, more in parsed
    ]


def status(response: httpx.Response) -> list[dict[str, Any]]:
    """What a response says of each prediction."""
    header = response.headers.get("cache-status")
    return [] if header is None else [more for _, more in members(header)]


@contextlib.contextmanager
def running(folder: Path, code: str, **environment: str) -> Iterator[Service]:
    """Serve the app in some code by a real server, from a folder, until the block ends."""
    (folder / "service.py").write_text(code)
    path = os.pathsep.join([str(folder), IMPORTS])
    with contextlib.chdir(folder):
        service = Service(
            ["uvicorn", "service:app", "--host", "127.0.0.1"],
            {**environment, "PYTHONPATH": path},
            folder / "log",
            ready="/docs",
        )
    with service:
        yield service
