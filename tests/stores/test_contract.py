"""The contract of all stores: both layouts, one server and a cluster, threads and event loops."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from model_cache.keys.key import Namespace
from model_cache.stores.opening import compose_both
from model_cache.stores.packing import LARGEST
from model_cache.stores.url import parse_url
from tests.faults.topologies import Cluster, running_cluster
from tests.servers import Server
from tests.stores.opened import TIMEOUT, InALoop

NAMESPACE = Namespace("a prefix", "a_model", "1.0.0")


def key_of(digest: int) -> bytes:
    return NAMESPACE.raw + base64.urlsafe_b64encode(digest.to_bytes(16)).rstrip(b"=")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


KINDS = list(itertools.product(("server", "cluster"), ("plain", "packed"), ("threads", "loop")))
FOR_THREADS = [kind for kind in KINDS if "threads" in kind]


@pytest.fixture(params=KINDS, ids=" ".join)
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    topology, layout, waits = request.param
    at: Server | Cluster = request.getfixturevalue(topology)
    stores = compose_both(
        parse_url("url", at.url),
        lambda _: None,
        timeout=TIMEOUT,
        expected_entries=1000 if layout == "packed" else None,
    )
    stores.sync.delete(list(stores.sync.scan(b"*", TIMEOUT)), TIMEOUT)
    in_a_loop = InALoop(stores.asynchronous)
    yield stores.sync if waits == "threads" else in_a_loop
    assert stores.sync.state == "closed"
    in_a_loop.close()
    stores.sync.close()


def test_get_returns_the_entry_that_was_set(store: Any) -> None:
    assert store.get(key_of(0), TIMEOUT) is None
    for entry in (b"", b"x", bytes(range(256)), b"\r\n$3\r\n", b"\0", b"y" * 3_000_000):
        store.set(key_of(0), entry, None, TIMEOUT)
        assert store.get(key_of(0), TIMEOUT) == entry
    for size in (1, LARGEST, LARGEST + 1, 1000):
        store.set(key_of(size), b"x" * size, None, TIMEOUT)
        assert store.get(key_of(size), TIMEOUT) == b"x" * size
    assert store.get(NAMESPACE.raw, TIMEOUT) is None


def test_many_entries_are_read_and_written_at_once(store: Any) -> None:
    entries = [(key_of(n), b"v%d" % n * (1 + n % 30), 60_000) for n in range(1000)]
    store.set_many(entries, TIMEOUT)
    keys = [key for key, _, _ in entries]
    wanted = [keys[7], key_of(10**9), *keys, keys[7]]
    found = {key: entry for key, entry, _ in entries}
    assert store.get_many(wanted, TIMEOUT) == [found.get(key) for key in wanted]
    assert store.get_many(wanted[:2], TIMEOUT) == [found[keys[7]], None]


def test_no_keys_need_no_request(store: Any) -> None:
    store.set_many([], TIMEOUT)
    assert store.get_many([], TIMEOUT) == store.get_with_ttl([], TIMEOUT) == []
    assert store.delete([], TIMEOUT) == 0


def test_entries_come_with_their_remaining_ttls(store: Any) -> None:
    for digest, entry, ttl in ((1, b"s", 60_000), (2, b"L" * 100, 60_000), (3, b"s", None)):
        store.set(key_of(digest), entry, ttl, TIMEOUT)
    store.set(b"another", b"x", 60_000, TIMEOUT)
    keys = [*map(key_of, range(5)), b"another"]
    found = store.get_with_ttl(keys, TIMEOUT)
    assert [entry for entry, _ in found] == [None, b"s", b"L" * 100, b"s", None, b"x"]
    for place in (1, 2, 5):
        assert 50_000 < found[place][1] <= 60_000
    assert found[3][1] is None


def test_a_write_returns_the_value_of_the_watched_key(store: Any) -> None:
    entries = [(key_of(1), b"s", 60_000), (key_of(2), b"L" * 100, None)]
    assert store.set_watching(entries, b"watched", TIMEOUT) is None
    store.set(b"watched", b"x", None, TIMEOUT)
    assert store.set_watching(entries, b"watched", TIMEOUT) == b"x"
    assert store.get_many([key_of(1), key_of(2)], TIMEOUT) == [b"s", b"L" * 100]


@pytest.mark.parametrize("size", [10, 100])
def test_an_empty_entry_erases_what_was_there(store: Any, size: int) -> None:
    store.set(key_of(1), b"x" * size, 60_000, TIMEOUT)
    store.set(key_of(1), b"", 1, TIMEOUT)
    deadline = time.monotonic() + TIMEOUT
    while store.get(key_of(1), TIMEOUT) is not None:
        assert time.monotonic() < deadline


def test_a_small_entry_replaces_a_large_one_and_vice_versa(store: Any) -> None:
    for entry in (b"s", b"L" * 100, b"t", b"M" * 100):
        store.set(key_of(1), entry, 60_000, TIMEOUT)
        assert store.get(key_of(1), TIMEOUT) == entry


def test_deleted_entries_are_gone(store: Any) -> None:
    store.set_many([(key_of(n), b"x", None) for n in range(10)], TIMEOUT)
    assert store.delete([*map(key_of, range(5)), key_of(99)], TIMEOUT) == 5
    found = store.get_many([key_of(n) for n in range(10)], TIMEOUT)
    assert found == [None] * 5 + [b"x"] * 5


def test_leases_are_keys_of_their_own(store: Any) -> None:
    lease = b"{%b}:lease" % key_of(1)
    assert store.set_if_absent(lease, b"mine", 60_000, TIMEOUT)
    assert not store.set_if_absent(lease, b"other", 60_000, TIMEOUT)
    assert store.get_many([key_of(1), lease], TIMEOUT) == [None, b"mine"]
    assert store.delete([lease], TIMEOUT) == 1
    assert store.set_if_absent(lease, b"other", None, TIMEOUT)


def test_pieces_are_appended_to_a_value(store: Any) -> None:
    assert store.append(b"key", b"one", TIMEOUT) == 3
    assert store.append(b"key", b"two", TIMEOUT) == 6
    assert store.get(b"key", TIMEOUT) == b"onetwo"


@pytest.mark.parametrize("store", FOR_THREADS, ids=" ".join, indirect=True)
def test_all_keys_of_a_namespace_are_scanned_and_deleted(store: Any) -> None:
    store.set_many([(key_of(n), b"x", None) for n in range(2500)], TIMEOUT)
    store.set(b"another", b"x", None, TIMEOUT)
    keys = list(store.scan(NAMESPACE.pattern, TIMEOUT))
    assert all(map(NAMESPACE.holds, keys))
    assert store.delete([*keys, b"none"], TIMEOUT) == 2500
    assert not any(store.get_many([key_of(n) for n in range(2500)], TIMEOUT))
    assert store.get(b"another", TIMEOUT) == b"x"
