"""Assert that a decorator caches, or predicts without the cache, with a url."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from model_cache import RedisCachingDecorator
from tests.models import FunctionModel, charge, person
from tests.servers import Server
from tests.stored import entries

# Passwords everywhere, so that whatever works here works with one.
PASSWORD, SENTINEL_PASSWORD = "s3cret-of-servers", "s3cret-of-sentinels"


TIMEOUT = 5.0  # generous: the machine may be busy
COUNT = 40
PACKED: dict[str, Any] = {"layout": "packed", "expected_entries": 2000, "ttl": 600}


@contextlib.contextmanager
def decorated(url: str, name: str, **options: Any) -> Iterator[RedisCachingDecorator]:
    """A decorator of a model whose name no other test uses, so that each begins cold."""
    with RedisCachingDecorator(url=url, **{"timeout": TIMEOUT, **options}) as decorator:
        yield decorator.set_model(FunctionModel(qualified_name=name))


def predict_all(decorator: RedisCachingDecorator) -> None:
    for age in range(COUNT):
        assert decorator.predict(person(age=age)) == charge(person(age=age))


def assert_caches(decorator: RedisCachingDecorator) -> None:
    """Each prediction is stored, and is a hit then."""
    before = decorator.stats()
    predict_all(decorator)
    predict_all(decorator)
    stats = decorator.stats()
    assert stats.stored - before.stored == COUNT
    assert stats.hits - before.hits == COUNT
    assert (stats.unavailable, stats.write_failures) == (0, 0)


def assert_predicts_without_cache(decorator: RedisCachingDecorator) -> None:
    predict_all(decorator)
    stats = decorator.stats()
    assert (stats.unavailable, stats.hits) == (COUNT, 0)


def entries_on(server: Server, name: str, database: int = 0) -> int:
    with server.client(password=PASSWORD, db=database) as client:
        return len(entries(client, f"{name}/*"))
