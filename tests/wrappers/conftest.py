"""A cache on the session's server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model_cache import Cache
from tests.servers import Server


@pytest.fixture
def cache(server: Server) -> Iterator[Cache]:
    with Cache(server.url, timeout=5.0) as cache:
        yield cache
