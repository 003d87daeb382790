"""The packed layout: small entries as fields of bucket hashes, with the promises of plain ones."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from model_cache import RedisCachingDecorator, refresh
from model_cache.entries.codec import Codec
from model_cache.entries.serders import VALUES
from model_cache.errors import ConfigurationError, StoreUnavailableError, WriteRefusedError
from model_cache.keys.buckets import Buckets, entry_key, is_bucket, parse_bucket
from model_cache.keys.key import EntryKey, parse_key
from model_cache.protocols import Store
from model_cache.stores.bucket_requests import BucketRequests, ended
from model_cache.stores.opening import compose, compose_both
from model_cache.stores.packed import PackedStore
from model_cache.stores.packing import LARGEST, Packing, packed, unpacked
from model_cache.stores.server import RedisStore
from model_cache.stores.url import parse_url
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server, running_server
from tests.stored import entries
from tests.stores.test_contract import NAMESPACE, key_of

TIMEOUT = 5.0
DIGESTS = st.integers(0, 2**128 - 1)
SIZES = st.integers(1, 10**11)


def store_at(url: str, expected_entries: int = 1000) -> Store:
    return compose(
        parse_url("url", url), lambda _: None, timeout=TIMEOUT, expected_entries=expected_entries
    )


@pytest.fixture
def packed_store(server: Server) -> Iterator[Store]:
    store = store_at(server.url)
    yield store
    store.close()


# The place of an entry


@given(DIGESTS, DIGESTS, SIZES)
def test_two_keys_never_share_a_field(one: int, other: int, expected: int) -> None:
    buckets = Buckets(expected)
    assert (buckets.place(key_of(one)) == buckets.place(key_of(other))) == (one == other)


@given(DIGESTS, SIZES)
def test_a_place_says_which_key_it_is_for(digest: int, expected: int) -> None:
    place = Buckets(expected).place(key_of(digest))
    assert place is not None
    assert entry_key(*place) == key_of(digest)
    assert parse_key(place.bucket) is None
    assert parse_bucket(place.bucket) is not None
    assert NAMESPACE.holds(place.bucket)
    assert len(place.bucket) == len(key_of(digest))


@given(st.binary(max_size=80))
def test_only_keys_of_entries_have_a_place(tail: bytes) -> None:
    for key in (tail, NAMESPACE.raw + tail, b"{%b}:lease" % (NAMESPACE.raw + tail)):
        if Buckets(1000).place(key) is not None:
            parsed = parse_key(key)
            assert parsed is None or isinstance(parsed, EntryKey)
            assert key[-1:] in b"AQgw"


def test_two_spellings_of_a_digest_do_not_share_a_field() -> None:
    key = key_of(0)
    assert key.endswith(b"A")
    assert Buckets(1000).place(key[:-1] + b"B") is None


@pytest.mark.parametrize(
    "bucket",
    [
        b"",
        b"a/1/~0000000a~00000000000a",
        b"a/1/~0000000A~000000000001",
        b"1/~0000000a~000000000001",
        b"a/1/~00000000~000000000000",
    ],
)
def test_other_keys_are_not_buckets(bucket: bytes) -> None:
    assert not is_bucket(bucket)
    assert entry_key(bucket, bytes(16)) is None


def test_fields_of_another_size_or_beyond_the_digests_are_not_entries() -> None:
    place = Buckets(1000).place(key_of(5))
    assert place is not None
    assert entry_key(place.bucket, place.field + b"x") is None
    assert entry_key(place.bucket, b"\xff" * len(place.field)) is None


# The value of a field


@given(st.binary(max_size=80), st.none() | st.integers(4, 10**11), st.floats(1e9, 4e9))
def test_a_value_is_its_entry_until_its_time_is_over(
    entry: bytes, ttl: int | None, now: float
) -> None:
    value = packed(entry, ttl, now)
    found, left = unpacked(value, now)
    assert found == entry
    assert len(value) == len(entry) + (1 if ttl is None else 5)
    if ttl is not None:
        assert left is not None
        assert ttl - 5 < left <= ttl
        assert unpacked(value, now + ttl / 1000 + 0.001) == (None, None)
        assert unpacked(value, now, longest_ttl=ttl + 1) == (entry, left)


@given(st.binary(max_size=12))
def test_any_bytes_are_a_value_or_a_miss(value: bytes) -> None:
    unpacked(value, 1.8e9, 1000)


def test_a_writer_whose_clock_is_ahead_can_not_make_entries_outlive_the_readers_ttl() -> None:
    value = packed(b"entry", 60_000, 1.8e9 + 3600)
    assert unpacked(value, 1.8e9)[0] == b"entry"
    assert unpacked(value, 1.8e9, longest_ttl=60_000) == (None, None)


# The store: behavior of buckets that the contract of all stores does not cover


def test_a_bucket_is_a_listpack_that_lives_as_long_as_its_longest_entry(
    server: Server, client: redis.Redis
) -> None:
    store = store_at(server.url, 1)
    for digest, ttl in ((1, 60_000), (2, 600_000), (3, 6_000)):
        store.set(key_of(digest), b"x" * LARGEST, ttl, TIMEOUT)
    (bucket,) = client.keys()
    assert client.object("encoding", bucket) == b"listpack"
    assert 500_000 < client.pttl(bucket) <= 600_000
    store.set(key_of(4), b"x", None, TIMEOUT)
    assert client.pttl(bucket) == -1
    store.close()


def test_one_float_with_a_ttl_costs_at_most_48_bytes() -> None:
    with running_server() as server, server.client() as client:
        assert bytes_of_one_float_with_a_ttl(server, client) <= 48


def bytes_of_one_float_with_a_ttl(server: Server, client: redis.Redis) -> float:
    count, codec = 20_000, Codec(Charges, serder=VALUES)
    store, draw = store_at(server.url, count), random.Random(1)
    before = client.info("memory")["used_memory"]
    for _ in range(0, count, 1000):
        keys = [key_of(draw.getrandbits(128)) for _ in range(1000)]
        entries = [codec.encode(key, Charges(charges=draw.random())) for key in keys]
        store.set_many(
            [(key, entry, 3_600_000) for key, entry in zip(keys, entries, strict=True)], TIMEOUT
        )
    store.close()
    return float(client.info("memory")["used_memory"] - before) / count


def test_a_sample_that_the_server_refuses_names_nothing_to_remove() -> None:
    assert ended(b"bucket", redis.exceptions.NoPermissionError(), 1.8e9) == []
    assert ended(b"bucket", [b"field", b"", b"other"], 1.8e9) == []


def test_an_entry_ends_before_its_bucket_does(server: Server, client: redis.Redis) -> None:
    store = store_at(server.url, 1)
    store.set_many([(key_of(1), b"short", 4), (key_of(2), b"long", 60_000)], TIMEOUT)
    deadline = time.monotonic() + TIMEOUT
    while store.get(key_of(1), TIMEOUT) is not None:
        assert time.monotonic() < deadline
    assert store.get(key_of(2), TIMEOUT) == b"long"
    assert client.dbsize() == 1
    store.close()


def test_entries_that_have_ended_make_room(server: Server, client: redis.Redis) -> None:
    store = store_at(server.url, 1)
    store.set(key_of(1000), b"kept", 60_000, TIMEOUT)  # the bucket lasts as long
    store.set_many([(key_of(n), b"x", 4) for n in range(300)], TIMEOUT)
    (bucket,) = client.keys()
    sizes = []
    for n in range(600):
        store.set(key_of(1001 + n % 100), b"x", 60_000, TIMEOUT)
        sizes.append(client.hlen(bucket))
    assert sizes[0] > 250
    assert sizes[-1] < 200  # of which 101 live
    assert store.get(key_of(1000), TIMEOUT) == b"kept"
    store.close()


def test_what_is_written_anew_is_not_removed_with_what_has_ended(server: Server) -> None:
    store = store_at(server.url, 1)
    store.set(key_of(1000), b"x", 60_000, TIMEOUT)
    store.set_many([(key_of(n), b"x", 4) for n in range(3)], TIMEOUT)
    for _ in range(20):
        for n in range(3):
            store.set(key_of(n), b"anew", 60_000, TIMEOUT)
        assert store.get_many([key_of(n) for n in range(3)], TIMEOUT) == [b"anew"] * 3
    store.close()


def test_a_bucket_that_is_no_hash_is_a_miss_and_is_not_written(
    server: Server, client: redis.Redis
) -> None:
    store = store_at(server.url, 1)
    place = Buckets(1).place(key_of(1))
    assert place is not None
    client.set(place.bucket, "a text")
    assert store.get(key_of(1), TIMEOUT) is None
    assert store.get_many([key_of(1)], TIMEOUT) == [None]
    with pytest.raises(WriteRefusedError, match="WRONGTYPE"):
        store.set(key_of(1), b"x", None, TIMEOUT)
    store.close()


def test_a_large_entry_from_before_a_small_one_does_not_come_back(
    server: Server, client: redis.Redis
) -> None:
    store = store_at(server.url, 1)
    for entry in (b"older" * 20, b"small"):
        store.set(key_of(1), entry, None, TIMEOUT)
    # As if Redis was full, or a shard lost, for one of the two writes.
    client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-set"])
    try:
        with pytest.raises(WriteRefusedError, match="set"):
            store.set(key_of(1), b"newer" * 20, None, TIMEOUT)
    finally:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])
    assert store.get(key_of(1), TIMEOUT) is None
    assert store.get_many([key_of(1)], TIMEOUT) == [None]
    assert store.get_with_ttl([key_of(1)], TIMEOUT) == [(None, None)]
    store.close()


def test_a_generation_is_not_taken_for_a_reference_to_a_large_entry(server: Server) -> None:
    store, key, value = store_at(server.url), NAMESPACE.raw + b"generation", b"\0" + bytes(7)
    store.set_if_absent(key, value, None, TIMEOUT)
    assert store.get(key, TIMEOUT) == value
    assert store.get_many([key], TIMEOUT) == [value]
    assert store.get_with_ttl([key], TIMEOUT) == [(value, None)]
    asynchronous = compose_both(
        parse_url("url", server.url), lambda _: None, timeout=TIMEOUT, expected_entries=1000
    ).asynchronous

    async def get() -> None:
        assert await asynchronous.get(key, TIMEOUT) == value
        assert await asynchronous.get_many([key], TIMEOUT) == [value]

    asyncio.run(get())
    asynchronous.close()
    store.close()


def test_no_time_is_left_for_a_large_entry_whose_place_took_it_all(
    server: Server, packed_store: Store
) -> None:
    packed_store.set(key_of(1), b"x" * 100, None, TIMEOUT)
    ticks = iter((0.0, 10.0, 0.0, 10.0))
    slow = PackedStore(packed_store._inner, Packing(Buckets(1000)), lambda: next(ticks))  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailableError):
        slow.get(key_of(1), TIMEOUT)
    with pytest.raises(StoreUnavailableError):
        slow.get_many([key_of(1)], TIMEOUT)


def test_ten_times_as_many_entries_as_planned_are_all_found(
    server: Server, client: redis.Redis
) -> None:
    store = store_at(server.url, 500)
    keys = [key_of(random.Random(n).getrandbits(128)) for n in range(5000)]
    for start in range(0, 5000, 500):
        batch = keys[start : start + 500]
        store.set_many([(key, key[-20:], 60_000) for key in batch], TIMEOUT)
    assert client.dbsize() == 5
    assert store.get_many(keys, TIMEOUT) == [key[-20:] for key in keys]
    store.close()


class Tick:
    """A clock that a test moves."""

    now = 1.8e9

    def __call__(self) -> float:
        return self.now


@given(st.data())
def test_a_packed_store_is_a_dict_with_times(server: Server, data: st.DataObject) -> None:
    clock, expected = Tick(), {}
    plan = data.draw(st.sampled_from([1, 100, 1000]))
    requests = BucketRequests(clock=clock)
    buckets = RedisStore(parse_url("url", server.url), requests=requests)
    store = PackedStore(buckets, Packing(Buckets(plan)))
    keys = [key_of(random.Random(n).getrandbits(128)) for n in range(6)]
    store.delete([*keys, *store.scan(NAMESPACE.pattern, TIMEOUT)], TIMEOUT)
    small = st.binary(min_size=1, max_size=LARGEST)
    for _ in range(data.draw(st.integers(1, 15))):
        chosen = data.draw(st.lists(st.sampled_from(keys), min_size=1, unique=True))
        match data.draw(st.sampled_from(["set", "delete", "wait"])):
            case "set":
                # Redis has its own clock, and large entries go by it.
                ttl = data.draw(st.none() | st.sampled_from([1_000_000, 2_000_000]))
                entry = data.draw(small if ttl else small | st.just(b"L" * 200))
                store.set_many([(key, entry, ttl) for key in chosen], TIMEOUT)
                end = None if ttl is None else clock.now + ttl / 1000
                expected.update(dict.fromkeys(chosen, (entry, end)))
            case "delete":
                store.delete(chosen, TIMEOUT)
                for key in chosen:
                    expected.pop(key, None)
            case "wait":
                clock.now += data.draw(st.sampled_from([10, 999, 1001]))
        alive = {
            key: entry for key, (entry, end) in expected.items() if end is None or end > clock.now
        }
        assert store.get_many(keys, TIMEOUT) == [alive.get(key) for key in keys]
        assert store.get(keys[0], TIMEOUT) == alive.get(keys[0])
    store.close()


# Predictions


def cached(server: Server, model: FunctionModel, **options: Any) -> RedisCachingDecorator:
    options = {"layout": "packed", "expected_entries": 1000, "timeout": 1.0, **options}
    return RedisCachingDecorator(url=server.url, **options).set_model(model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ttl": 60},
        {"serder": "MessagePack", "ttl": 60},
        {"integrity": True},
        {"key_secret": "a long enough secret"},
        {"use_compression": True},
        {"ttl": 60, "stale_if_error": 60, "integrity": True},
        {"ttl": 60, "stale_while_revalidate": 6000},
        {"single_flight": "fleet"},
        {"write": "background"},
    ],
    ids=str,
)
def test_a_prediction_is_a_hit_the_second_time(server: Server, options: dict[str, Any]) -> None:
    model = FunctionModel()
    with cached(server, model, **options) as cache:
        first = cache.predict(person())
    with cached(server, model, **options) as cache:
        assert cache.predict(person()) == first
        assert cache.stats().hits == 1


def test_packed_entries_are_predicted_in_batches(server: Server) -> None:
    asked = [person(age=age % 50) for age in range(80)]
    with cached(server, FunctionModel(), ttl=60) as cache:
        assert cache.predict_many(asked) == [charge(each) for each in asked]
        assert cache.predict_many(asked) == [charge(each) for each in asked]
        assert cache.predict(person(age=1)) == charge(person(age=1))
        assert cache.stats().misses == 50


@pytest.mark.parametrize("ttl", [None, 60, 0.05])
def test_packed_entries_are_near_for_no_longer_than_their_ttl(
    server: Server, ttl: float | None
) -> None:
    model = FunctionModel()
    with (
        cached(server, model, ttl=ttl) as writer,
        cached(server, model, ttl=ttl, near_cache=100) as near,
    ):
        writer.predict(person())
        for _ in range(3):
            assert near.predict(person()) == charge(person())
        if ttl == 0.05:
            deadline = time.monotonic() + TIMEOUT
            while len(model.calls) < 3:
                near.predict(person())
                assert time.monotonic() < deadline
        else:
            assert len(model.calls) == 1
            assert near.stats().hits == 3
            assert near.stats().near_hits >= 1
            assert near.purge() == 1
            near.predict(person())
            assert len(model.calls) == 2


def test_layouts_and_plans_mix_without_wrong_answers(server: Server) -> None:
    plans: list[dict[str, Any]] = [
        {"layout": "plain", "expected_entries": None},
        {},
        {"expected_entries": 100_000},
        {"ttl": 60},
        {"ttl": 6000},
    ]
    persons = [person(age=age) for age in range(30)]
    caches = [cached(server, FunctionModel(), **plan) for plan in plans]
    for _ in range(2):
        for cache in caches:
            assert [cache.predict(each) for each in persons] == [charge(each) for each in persons]
    assert caches[0].purge() >= 60  # of plain entries and of both plans
    for cache in caches:
        before = cache.stats().misses
        cache.predict(persons[0])
        assert cache.stats().misses == before + 1
        cache.purge()
        cache.close()


def test_a_purge_deletes_buckets_and_counts_their_entries(
    server: Server, client: redis.Redis
) -> None:
    other = FunctionModel(qualified_name="other")
    with cached(server, FunctionModel(), ttl=60) as cache, cached(server, other) as kept:
        for age in range(30):
            cache.predict(person(age=age))
        kept.predict(person())
        assert cache.purge() == 30
        assert len(client.keys("*/~*")) == 1
        assert cache.purge() == 0


def test_a_packed_entry_is_refreshed_and_erased(server: Server) -> None:
    answers = iter(range(1000, 2000))
    model = FunctionModel(function=lambda _: Charges(charges=float(next(answers))))
    with cached(server, model, cache_if=lambda _, made: made.charges != 1002) as cache:
        assert cache.predict(person()).charges == 1000
        with refresh():
            assert cache.predict(person()).charges == 1001
        assert cache.predict(person()).charges == 1001
        with refresh():  # of which the result may not be stored
            assert cache.predict(person()).charges == 1002
        assert cache.predict(person()).charges == 1003
        assert cache.predict(person()).charges == 1003


def test_an_erased_entry_does_not_take_its_bucket_along(server: Server) -> None:
    with cached(server, FunctionModel(), cache_if=lambda data, _: data.age < 50) as cache:
        people = [person(age=age) for age in range(30)]
        cache.predict_many(people)
        with refresh():  # of which the results may not be stored
            cache.predict_many([person(age=age) for age in range(50, 80)])
        time.sleep(0.01)
        cache.predict_many(people)
        assert cache.stats().hits == len(people)


def test_a_packed_entry_ends_with_its_ttl(server: Server, client: redis.Redis) -> None:
    model = FunctionModel()
    with cached(server, model, ttl=60) as long, cached(server, model, ttl=0.05) as short:
        short.predict(person())
        long.predict(person(age=1))
        deadline = time.monotonic() + TIMEOUT
        while len(model.calls) < 3:
            short.predict(person())
            assert time.monotonic() < deadline
        # What the other one wrote has longer left than this one's entries ever do.
        short.predict(person(age=1))
        assert len(model.calls) == 4
    assert client.dbsize() >= 1


def test_a_stale_packed_entry_answers_if_the_model_raises(server: Server) -> None:
    is_down = False

    def flaky(data: Person) -> Charges:
        if is_down:
            raise RuntimeError("down")
        return charge(data)

    with cached(server, FunctionModel(function=flaky), ttl=0.01, stale_if_error=100) as cache:
        cache.predict(person())
        is_down = True
        deadline = time.monotonic() + TIMEOUT
        while not cache.stats().stale:
            assert cache.predict(person()) == charge(person())
            assert time.monotonic() < deadline


def test_a_stale_packed_entry_answers_while_it_is_computed_anew(server: Server) -> None:
    options: dict[str, Any] = {"ttl": 0.01, "stale_while_revalidate": 100}
    with cached(server, FunctionModel(), **options) as cache:
        cache.predict(person())
        deadline = time.monotonic() + TIMEOUT
        while not cache.stats().stale:
            assert cache.predict(person()) == charge(person())
            assert time.monotonic() < deadline
        assert cache.stats().misses == 1


def test_swapped_and_damaged_packed_entries_are_misses(server: Server, client: Any) -> None:
    model = FunctionModel()
    with cached(server, model, integrity=True, expected_entries=1, ttl=60) as cache:
        for age in (1, 2, 3):
            cache.predict(person(age=age))
        (bucket,) = entries(client)
        (one, first), (other, second), (third, damaged) = client.hgetall(bucket).items()
        client.hset(bucket, mapping={one: second, other: first, third: damaged[:-1] + b" "})
        for age in (1, 2, 3):
            assert cache.predict(person(age=age)) == charge(person(age=age))
        assert (cache.stats().undecodable, cache.stats().hits) == (3, 0)


def test_a_fleet_computes_a_packed_entry_once(server: Server) -> None:
    gate = Gate()
    model = FunctionModel(function=gate)
    options: dict[str, Any] = {"single_flight": "fleet", "timeout": TIMEOUT, "ttl": 60}
    with (
        cached(server, model, **options) as one,
        cached(server, model, **options) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        leader = pool.submit(one.predict, person())
        assert gate.entered.wait(TIMEOUT)
        follower = pool.submit(other.predict, person())
        gate.go.set()
        assert leader.result(TIMEOUT) == follower.result(TIMEOUT) == charge(person())
        assert len(model.calls) == 1


def test_buckets_that_are_evicted_are_misses() -> None:
    with (
        running_server("--maxmemory-policy", "allkeys-lru") as server,
        server.client() as client,
        cached(server, FunctionModel(), expected_entries=4_000, ttl=600) as cache,
    ):
        cache.predict(person())
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 120_000)
        asked = [person(age=age) for age in range(4_000)]
        for _ in range(2):
            assert [cache.predict(each) for each in asked] == [charge(each) for each in asked]
        assert client.info("stats")["evicted_keys"]
        stats = cache.stats()
        assert stats.misses > 4_000
        assert stats.write_failures == stats.unavailable == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "dense"}, "layout: expected 'plain' or 'packed', got 'dense'"),
        ({"layout": "packed"}, "expected_entries: is required for layout: packed"),
        ({"expected_entries": 5}, "expected_entries: 5 has no effect without layout: packed"),
        ({"layout": "packed", "expected_entries": 0}, "expected_entries: expected a whole number"),
    ],
)
def test_options_that_can_not_be_honoured_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        RedisCachingDecorator(**options)
