"""Redis as a store: the contract."""

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


def test_an_entry_that_was_set_is_returned(store: RedisStore, client: redis.Redis) -> None:
    for entry in (b"", b"x", bytes(range(256)), b"\r\n$3\r\n", b"y" * 3_000_000):
        store.set(b"key", entry, None, TIMEOUT)
        assert store.get(b"key", TIMEOUT) == entry
        assert client.get("key") == entry
    assert store.get(b"nothing", TIMEOUT) is None


def test_a_ttl_is_in_milliseconds(store: RedisStore, client: redis.Redis) -> None:
    store.set(b"key", b"x", 60_000, TIMEOUT)
    assert 50_000 < client.pttl("key") <= 60_000


def test_many_entries_are_read_and_written_at_once(store: RedisStore, client: redis.Redis) -> None:
    entries = [(b"%d" % number, b"v%d" % number, None) for number in range(1000)]
    store.set_many(entries, TIMEOUT)
    client.rpush("list", "x")
    keys = [key for key, _, _ in entries]
    assert store.get_many([*keys, b"none", b"list"], TIMEOUT) == [
        *[entry for _, entry, _ in entries],
        None,
        None,
    ]
    assert store.get_many([], TIMEOUT) == []
    store.set_many([], TIMEOUT)


def test_scan_yields_keys_and_delete_counts_them(store: RedisStore) -> None:
    keys = {b"a/%d" % number for number in range(2500)}
    store.set_many([(key, b"", None) for key in keys | {b"b/1"}], TIMEOUT)
    assert set(store.scan(b"a/*", TIMEOUT)) == keys
    assert store.delete([*keys, b"none"], TIMEOUT) == 2500
    assert store.get(b"b/1", TIMEOUT) == b""
    assert store.delete([], TIMEOUT) == 0


def test_a_key_of_another_type_is_a_miss_and_is_overwritten(
    store: RedisStore, client: redis.Redis
) -> None:
    client.rpush("key", "x")
    assert store.get(b"key", TIMEOUT) is None
    store.set(b"key", b"entry", None, TIMEOUT)
    assert store.get(b"key", TIMEOUT) == b"entry"


def test_a_closed_store_opens_again(store: RedisStore, client: redis.Redis) -> None:
    store.set(b"key", b"x", None, TIMEOUT)
    before = client.info("clients")["connected_clients"]
    store.close()
    poll(lambda: client.info("clients")["connected_clients"] == before - 1)
    assert store.get(b"key", TIMEOUT) == b"x"


def test_pieces_are_appended_to_a_value(store: RedisStore, client: redis.Redis) -> None:
    assert store.append(b"key", b"one", TIMEOUT) == 3
    assert store.append(b"key", b"two", TIMEOUT) == 6
    assert client.get("key") == b"onetwo"
