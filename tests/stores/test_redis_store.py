"""One Redis server as a store, beyond what every store does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from model_cache.stores.server import RedisStore
from tests.servers import Server
from tests.stores.opened import TIMEOUT, store_on
from tests.waiting import poll


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    store = store_on(server)
    yield store
    store.close()


def test_an_entry_is_the_value_of_its_key(store: RedisStore, client: redis.Redis) -> None:
    store.set(b"key", b"entry", None, TIMEOUT)
    assert client.get("key") == b"entry"


def test_a_ttl_is_in_milliseconds(store: RedisStore, client: redis.Redis) -> None:
    store.set(b"key", b"x", 60_000, TIMEOUT)
    assert 50_000 < client.pttl("key") <= 60_000


def test_a_key_of_another_type_is_a_miss_and_is_overwritten(
    store: RedisStore, client: redis.Redis
) -> None:
    client.rpush("key", "x")
    assert store.get(b"key", TIMEOUT) is None
    assert store.get_many([b"key"] * 5, TIMEOUT) == [None] * 5
    store.set(b"key", b"entry", None, TIMEOUT)
    assert store.get(b"key", TIMEOUT) == b"entry"


def test_a_closed_store_opens_again(store: RedisStore, client: redis.Redis) -> None:
    store.set(b"key", b"x", None, TIMEOUT)
    before = client.info("clients")["connected_clients"]
    store.close()
    poll(lambda: client.info("clients")["connected_clients"] == before - 1)
    assert store.get(b"key", TIMEOUT) == b"x"
