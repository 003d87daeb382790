"""The near cache serves nothing older than a purge or a refresh allows, on any schedule."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from model_cache import Cache, do_not_store, refresh
from model_cache.errors import StoreUnavailableError
from model_cache.keys.key import Namespace
from model_cache.observing.events import EntryStored
from model_cache.prediction.generation import Generation
from model_cache.stores.server import RedisStore
from model_cache.stores.url import parse_url
from tests.models import Charges, FunctionModel, Person, person
from tests.prediction.test_near_cache import cached, is_near
from tests.servers import Server
from tests.stores.test_urls import answering

NAMESPACE = Namespace(None, "model", "1")


def test_a_purge_empties_the_near_caches_of_all_decorators_of_the_process(server: Server) -> None:
    value = 1.0
    one, other = (cached(server.url, lambda _: Charges(charges=value)) for _ in range(2))
    for cache in (one, other):
        cache.predict(person())
    value = 2.0
    one.purge()
    assert other.predict(person()) == Charges(charges=2.0)


@pytest.mark.parametrize("near_cache", [None, 1000])
def test_a_refresh_replaces_the_near_entry_of_every_decorator_of_the_process(
    server: Server, near_cache: int | None
) -> None:
    value = 1.0
    one, other = (
        cached(server.url, lambda _: Charges(charges=value), near_cache=each)
        for each in (near_cache, 1000)
    )
    for cache in (one, other):
        cache.predict(person())
    value = 2.0
    with refresh():
        one.predict(person())
    assert other.predict(person()) == Charges(charges=2.0)


@pytest.mark.parametrize("near_cache", [None, 1000])
def test_a_refresh_leaves_the_near_entries_of_other_models(
    server: Server, near_cache: int | None
) -> None:
    other = cached(server.url, prefix="other")
    for _ in range(2):
        other.predict(person())
    with refresh():
        cached(server.url, near_cache=near_cache).predict(person())
    other.predict(person())
    assert is_near()


def predict_by_others(cache: Cache, number: int) -> None:
    """Predict once by each of many functions, such as one for each customer."""
    for each in range(number):
        cache.memoize(version="1", name=f"other_{each}")(lambda value: value)(1)


@pytest.mark.parametrize("how", ["forget", "refresh"])
def test_the_predictions_of_many_models_do_not_bring_back_an_older_near_entry(
    server: Server, how: str
) -> None:
    value = 1.0
    with Cache(server.url, near_cache=1000, timeout=5.0) as cache:
        one, other = (
            cache.model(FunctionModel(function=lambda _: Charges(charges=value))) for _ in range(2)
        )
        one.predict(person())
        for _ in range(2):
            other.predict(person())
        predict_by_others(cache, 300)
        value = 2.0
        if how == "forget":
            one.forget(person())
        else:
            with refresh():
                one.predict(person())
        assert other.predict(person()) == Charges(charges=2.0)


def test_a_refresh_does_not_undo_a_later_one(server: Server) -> None:
    values = iter([0.0, 1.0, 2.0])
    waits, stored, may_go_on = threading.Event(), threading.Event(), threading.Event()

    def hook(event: object) -> None:
        if isinstance(event, EntryStored) and waits.is_set() and not stored.is_set():
            stored.set()
            may_go_on.wait(10)

    cache = cached(server.url, lambda _: Charges(charges=next(values)), hooks=[hook])

    def refreshed() -> Any:
        with refresh():
            return cache.predict(person())

    cache.predict(person())
    waits.set()
    with ThreadPoolExecutor(1) as pool:
        earlier = pool.submit(refreshed)
        stored.wait(10)
        later = refreshed()
        may_go_on.set()
        assert earlier.result() == Charges(charges=1.0)
    assert later == Charges(charges=2.0)
    assert cache.predict(person()) == Charges(charges=2.0)


def test_a_hit_during_a_refresh_that_stores_nothing_does_not_stay(server: Server) -> None:
    value = 1.0

    def model(_: Person) -> Charges:
        if value == 2.0:
            assert pool.submit(cache.predict, person()).result() == Charges(charges=1.0)  # a hit
            do_not_store()
        return Charges(charges=value)

    cache = cached(server.url, model)
    cache.predict(person())
    value = 2.0
    with ThreadPoolExecutor(1) as pool, refresh():
        assert cache.predict(person()) == Charges(charges=2.0)
    value = 3.0
    assert cache.predict(person()) == Charges(charges=3.0)


def test_a_generation_is_trusted_from_when_it_was_asked_for() -> None:
    generation = Generation(NAMESPACE)
    generation.saw(b"one", 10.0)
    assert generation.is_recent(11.0)
    assert not generation.is_recent(11.1)


def test_a_late_reply_does_not_bring_back_an_older_generation() -> None:
    generation = Generation(NAMESPACE)
    generation.saw(b"two", 10.0)
    generation.saw(b"one", 9.0)
    assert generation.value == b"two"
    generation.changed(b"three", 11.0)
    generation.saw(b"two", 10.5)
    assert generation.value == b"three"
    assert not generation.is_recent(11.0)


def test_a_refused_connection_extends_the_trust_by_a_second_only() -> None:
    generation = Generation(NAMESPACE)
    generation.saw(b"one", 10.0)
    refused = StoreUnavailableError("refused", "connection")
    refused.__cause__ = ConnectionRefusedError()
    generation.missed(refused, 12.0)
    generation.missed(StoreUnavailableError("circuit open", "circuit_open"), 12.5)
    assert generation.is_recent(13.0)
    assert not generation.is_recent(13.1)


@pytest.mark.parametrize("size", [1, 3])
def test_a_purge_in_the_middle_of_a_look_up_is_seen(
    server: Server, client: redis.Redis, size: int
) -> None:
    """Redis may serve others between two commands of one request, and a cluster's nodes do."""
    cache = cached(server.url, lambda _: Charges(charges=1.0))
    people = [person(age=age) for age in range(size)]
    cache.predict_many(people)
    reader = cached(server.url, lambda _: Charges(charges=2.0))
    store = reader._predictor._inner._store

    class Interleaved:
        """The store of `reader`, with a purge by another process after the first entry."""

        def get_with_ttl(
            self, keys: Sequence[bytes], timeout: float
        ) -> list[tuple[bytes | None, int | None]]:
            read = []
            for key in keys:
                read += store.get_with_ttl([key], timeout)
                if not key.endswith(b"generation") and client.exists(key):
                    client.delete(*keys)
                    client.set(keys[0].rpartition(b"/")[0] + b"/generation", "another")
            return read

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    reader._predictor._inner._store = Interleaved()
    reader.predict_many(people)
    reader._predictor._inner._store = store
    reader._predictor._inner._look_ups.generations.of(
        reader._current.binding.namespace
    ).trusted_until = 0.0
    assert reader.predict(people[0]) == Charges(charges=2.0)


def test_a_check_answers_with_the_entry_that_it_has_checked(
    server: Server, client: redis.Redis
) -> None:
    """Another caller may replace the entry while this one asks whether it was purged."""
    value = 1.0
    cache = cached(server.url, lambda _: Charges(charges=value))
    cache.predict(person())
    predictor = cache._predictor._inner
    store = predictor._store
    generation = predictor._look_ups.generations.of(cache._current.binding.namespace)

    class Interleaved:
        """The store, with a purge by another process and a caller who has seen it."""

        def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
            predictor._store = store
            client.delete(*client.keys("*"))
            client.set(generation.key, "another")
            for _ in range(3):  # the first sees the purge, the second stores, the third finds it
                assert cache.predict(person()) == Charges(charges=2.0)
            found: list[bytes | None] = store.get_many(keys, timeout)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    value = 2.0
    predictor._store = Interleaved()
    generation.trusted_until = 0.0
    assert cache.predict(person()) == Charges(charges=2.0)
    assert is_near()


class Overtaken(Generation):
    """A generation that another thread looks at, in the middle of a caller's own reading of it."""

    reads_until_then = -1

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in {"value", "trusted_until"}:
            self.reads_until_then -= 1
            if self.reads_until_then == 0:
                self.saw(b"another", time.perf_counter())
        return found


@pytest.mark.parametrize("reads", range(1, 7))
def test_no_entry_counts_as_checked_by_a_look_that_outdates_it(
    server: Server, client: redis.Redis, reads: int
) -> None:
    value = 1.0
    cache = cached(server.url, lambda _: Charges(charges=value))
    generation = Overtaken(cache._current.get().namespace)
    cache._predictor._inner._look_ups.generations._generations = {
        cache._current.get().namespace.raw: generation
    }
    for _ in range(2):
        cache.predict(person())
    assert is_near()
    client.delete(*client.keys("*"))
    client.set(generation.key, "another")
    value = 2.0
    generation.trusted_until = 0.0
    generation.reads_until_then = reads
    assert cache.predict(person()) == Charges(charges=2.0)


def test_an_entry_that_expires_while_it_is_read_does_not_live_for_ever() -> None:
    entry = b'{"charges":1.0}'
    with answering(b"$%d\r\n%b\r\n:-2\r\n" % (len(entry), entry)) as port:
        endpoint = replace(parse_url("url", f"redis://127.0.0.1:{port}"), proxied=True)
        store = RedisStore(endpoint)
        assert store.get_with_ttl([b"key"], 5.0) == [(entry, 0)]
        store.close()
