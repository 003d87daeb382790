"""A certificate authority for the tests of stores, and stores for threads and event loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from model_cache.stores.server import AsyncRedisStore, RedisStore
from model_cache.stores.url import Endpoint
from tests.loops import MAKERS
from tests.stores.opened import InALoop


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, path


@pytest.fixture(params=["threads", *MAKERS])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[Endpoint], Any]]:
    """A function that opens stores for threads, or for a kind of event loop."""
    opened: list[Any] = []

    def open_at(endpoint: Endpoint) -> Any:
        store, make = RedisStore(endpoint), MAKERS.get(request.param)
        opened.append(store if make is None else InALoop(AsyncRedisStore(store), make))
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()
