"""`forget`, `lookup` and `store`: one entry read, written or dropped by hand, by both drivers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from pydantic import BaseModel

from model_cache import (
    Cache,
    ConfigurationError,
    RedisCachingDecorator,
    StoreUnavailableError,
    bypass,
    last_outcome,
    refresh,
)
from model_cache.keys.key import Namespace
from model_cache.prediction.generation import (
    UNKNOWN,
    Generation,
    is_outdated,
    is_purge,
    mark_of,
    records_of,
)
from tests.models import Anything, Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server, free_port
from tests.stored import entries

SECOND = 1.0  # after which a forget elsewhere is seen


class Ways:
    """The three methods, by the driver for threads."""

    def forget(self, cache: Any, data: BaseModel) -> bool:
        return bool(cache.forget(data))

    def lookup(self, cache: Any, data: BaseModel) -> Any:
        return cache.lookup(data)

    def store(self, cache: Any, data: BaseModel, prediction: Any) -> bool:
        return bool(cache.store(data, prediction))


class WaysInALoop(Ways):
    """The three methods, by the driver for event loops."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def forget(self, cache: Any, data: BaseModel) -> bool:
        return bool(self._runner.run(cache.aforget(data)))

    def lookup(self, cache: Any, data: BaseModel) -> Any:
        return self._runner.run(cache.alookup(data))

    def store(self, cache: Any, data: BaseModel, prediction: Any) -> bool:
        return bool(self._runner.run(cache.astore(data, prediction)))


@pytest.fixture(params=["threads", "loop"])
def ways(request: pytest.FixtureRequest) -> Iterator[Ways]:
    if request.param == "threads":
        yield Ways()
        return
    with asyncio.Runner() as runner:
        yield WaysInALoop(runner)


def cached(server: Server, function: Any = charge, **options: Any) -> Any:
    options = {"url": server.url, "timeout": 5.0, **options}
    return RedisCachingDecorator(**options).set_model(FunctionModel(function=function))


def counting() -> Any:
    """Return a function whose answers are 1, 2, 3, ..."""
    values = iter(range(1, 100))
    return lambda _: Charges(charges=next(values))


# forget


@pytest.mark.parametrize("options", [{}, {"near_cache": 100}, {"layout": "packed"}], ids=str)
def test_what_is_forgotten_is_computed_anew(
    server: Server, ways: Ways, options: dict[str, Any]
) -> None:
    if "layout" in options:
        options = {**options, "expected_entries": 1000}
    cache = cached(server, counting(), **options)
    assert cache.predict(person()).charges == 1
    assert cache.predict(person(age=43)).charges == 2
    assert ways.forget(cache, person()) is True
    assert ways.forget(cache, person()) is False
    assert cache.predict(person()).charges == 3
    assert cache.predict(person()).charges == 3
    assert cache.predict(person(age=43)).charges == 2  # the entries of other inputs stay


def test_what_has_no_entry_can_be_forgotten(server: Server, ways: Ways) -> None:
    assert ways.forget(cached(server), person()) is False
    anything: Any = RedisCachingDecorator(url=server.url)
    anything.set_model(FunctionModel(input_schema=Anything))
    assert ways.forget(anything, Anything(value=object())) is False


def test_a_forgotten_entry_leaves_the_near_caches_of_other_processes_within_a_second(
    server: Server, ways: Ways
) -> None:
    here, elsewhere = (cached(server, counting(), near_cache=100) for _ in range(2))
    for _ in range(2):
        for age in (42, 43):
            elsewhere.predict(person(age=age))
    alone = _in_another_process(elsewhere)
    assert ways.forget(here, person()) is True
    assert here.predict(person()).charges == 1
    time.sleep(SECOND)
    assert alone.predict(person()).charges == 1  # from the entry that was written since
    outcome = last_outcome()
    assert outcome is not None
    assert not outcome.near
    alone.predict(person(age=43))
    outcome = last_outcome()
    assert outcome is not None
    assert outcome.near  # other entries stay near


def _in_another_process(cache: Any) -> Any:
    """Give a decorator its own barrier's generations, as if it were in another process."""
    generations = cache._backend.barrier.generations
    own = type(generations)()
    cache._backend.look_ups.generations = own
    known = generations.of(Namespace(None, "test_model", "1.0.0"))
    own.of(Namespace(None, "test_model", "1.0.0")).saw(known.value, time.perf_counter())
    if hasattr(cache._predictor, "_known"):
        cache._predictor._known = None, known, cache._predictor._known[2]
    return cache


def test_entries_near_another_decorator_of_the_process_are_forgotten_at_once(
    server: Server, ways: Ways
) -> None:
    here, other = (cached(server, counting(), near_cache=100) for _ in range(2))
    other.predict(person())
    other.predict(person())
    ways.forget(here, person())
    assert other.predict(person()).charges == 2


def test_a_forgotten_entry_takes_no_memory(server: Server, ways: Ways) -> None:
    cache = cached(server, near_cache=100)
    cache.predict(person())
    assert len(cache._backend.near) == 1
    ways.forget(cache, person())
    assert len(cache._backend.near) == 0


def test_what_is_computed_meanwhile_is_neither_stored_nor_shared(
    server: Server, client: redis.Redis, ways: Ways
) -> None:
    gate = Gate()
    answers = iter([lambda data: gate(data) and Charges(charges=1.0)])
    cache = cached(server, lambda data: next(answers, lambda _: Charges(charges=2.0))(data))
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(cache.predict, person())
        assert gate.entered.wait(10)
        assert ways.forget(cache, person()) is False
        assert cache.predict(person()) == Charges(charges=2.0)  # does not wait for the older one
        gate.go.set()
        assert before.result() == Charges(charges=1.0)
    assert cache.predict(person()) == Charges(charges=2.0)
    assert client.get(cache.cache_key(person())) == b'{"charges":2.0}'


def test_what_another_process_computes_meanwhile_is_not_stored(
    server: Server, client: redis.Redis, ways: Ways
) -> None:
    gates = {42: Gate(), 43: Gate()}
    elsewhere = cached(server, lambda data: gates[data.age](data))
    elsewhere._backend.look_ups.generations = type(elsewhere._backend.barrier.generations)()
    here = cached(server)
    ways.forget(here, person(age=1))  # the generation has a value
    with ThreadPoolExecutor(2) as pool:
        flying = [pool.submit(elsewhere.predict, person(age=age)) for age in gates]
        for gate in gates.values():
            assert gate.entered.wait(10)
        # By hand, since both decorators share the barrier of this process.
        key = here.cache_key(person()).encode()
        client.append(Generation(Namespace(None, "test_model", "1.0.0")).key, records_of([key]))
        for gate in gates.values():
            gate.go.set()
        for each in flying:
            each.result()
    assert client.exists(here.cache_key(person(age=43)))
    time.sleep(0.01)  # an erased entry lives for a millisecond
    assert not client.exists(here.cache_key(person()))


def test_a_forget_that_fails_says_so_and_the_entry_is_not_served_here(
    server: Server, client: redis.Redis, ways: Ways
) -> None:
    cache = cached(server, counting())
    cache.predict(person())
    client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-unlink"])
    try:
        with pytest.raises(StoreUnavailableError, match="unlink"):
            ways.forget(cache, person())
    finally:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])
    assert cache.predict(person()).charges == 2


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_a_forget_of_many_entries_that_fails_serves_none_of_them_here(
    server: Server, client: redis.Redis, in_a_loop: bool
) -> None:
    factor, rows = 1, list(range(1, 1001))
    with Cache(server.url, timeout=5.0) as cache:
        multiplied = cache.memoize_rows(version="1", name="multiplied")(
            lambda rows: [factor * row for row in rows]
        )
        multiplied(rows)
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-unlink"])
        try:
            with pytest.raises(StoreUnavailableError, match="unlink"):
                asyncio.run(multiplied.aforget(rows)) if in_a_loop else multiplied.forget(rows)
        finally:
            client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])
        factor = 2
        assert multiplied(rows) == [2 * row for row in rows]


def test_a_forget_of_many_entries_that_fails_overtakes_what_is_computed_for_any_of_them(
    server: Server, client: redis.Redis
) -> None:
    factor, begun, may_end = 1, threading.Event(), threading.Event()

    def multiply(rows: list[int]) -> list[int]:
        made = [factor * row for row in rows]
        if rows == [90]:
            begun.set()
            assert may_end.wait(10)
        return made

    with Cache(server.url, timeout=5.0) as cache, ThreadPoolExecutor(2) as pool:
        multiplied = cache.memoize_rows(version="1", name="multiplied", revision="1")(multiply)
        older = pool.submit(multiplied, [90])
        assert begun.wait(10)
        factor = 2
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-unlink"])
        try:
            with pytest.raises(StoreUnavailableError, match="unlink"):
                multiplied.forget(list(range(1, 101)))
        finally:
            client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])
        newer = pool.submit(multiplied, [90, 91])
        time.sleep(0.1)  # it would wait for the older one
        may_end.set()
        assert older.result() == [90]
        assert newer.result() == [180, 182]


def test_many_forgets_do_not_make_the_generation_grow(server: Server, client: redis.Redis) -> None:
    cache = cached(server, near_cache=10)
    for age in range(150):
        cache.forget(person(age=age))
    generation = client.get("test_model/1.0.0/generation")
    assert isinstance(generation, bytes)
    assert len(generation) < 3000
    cache.predict(person())
    cache.predict(person())
    outcome = last_outcome()
    assert outcome is not None
    assert outcome.near


def test_a_generation_tells_forgets_from_purges() -> None:
    one, other = b"model/1/" + b"a" * 22, b"model/1/" + b"b" * 22
    for base in (None, b"8 bytes."):
        forgotten = (base or b"") + records_of([one])
        assert is_outdated(mark_of(one), base, forgotten)
        assert not is_outdated(mark_of(other), base, forgotten)
        assert not is_outdated(mark_of(one), forgotten, forgotten + records_of([other]))
        assert is_outdated(
            mark_of(one), forgotten, forgotten + records_of([other]) + records_of([one])
        )
        for purged in (b"a purge.", b"a purge." + records_of([other]), None, b"", UNKNOWN):
            assert is_outdated(mark_of(other), forgotten, purged)
    assert not is_purge(b"8 bytes.", b"8 bytes." + records_of([one]))
    assert is_purge(b"8 bytes.", b"a purge.")
    assert is_outdated(mark_of(one), None, b"a purge.")
    assert is_outdated(mark_of(one), UNKNOWN, None)
    assert not is_outdated(mark_of(one), None, None)


# lookup


@pytest.mark.parametrize("near", [None, 100])
def test_a_lookup_reads_and_never_computes(server: Server, ways: Ways, near: int | None) -> None:
    model = FunctionModel()
    cache: Any = RedisCachingDecorator(url=server.url, near_cache=near)
    cache.set_model(model)
    assert ways.lookup(cache, person()) is None
    assert model.calls == []
    cache.predict(person())
    before = last_outcome()
    for _ in range(3):
        assert ways.lookup(cache, person()) == charge(person())
    assert last_outcome() is before
    assert cache.stats().predictions == 1
    assert len(model.calls) == 1


def test_a_lookup_inside_bypass_or_refresh_finds_nothing(server: Server, ways: Ways) -> None:
    cache = cached(server)
    cache.predict(person())
    for block in (bypass, refresh):
        with block():
            assert cache.lookup(person()) is None


def test_a_lookup_serves_no_entry_from_before_a_barrier(server: Server, ways: Ways) -> None:
    cache = cached(server)
    cache.predict(person())
    key = cache.cache_key(person()).encode()
    cache._backend.barrier.distrust(key)
    for _ in range(2):
        assert ways.lookup(cache, person()) is None
    assert key in cache._backend.barrier.distrusted


def test_a_lookup_finds_neither_stale_nor_foreign_entries(
    server: Server, client: redis.Redis, ways: Ways
) -> None:
    cache = cached(server, ttl=0.05, stale_if_error=60, stale_while_revalidate=60)
    cache.predict(person())
    time.sleep(0.06)  # past its ttl
    assert ways.lookup(cache, person()) is None
    client.set(cache.cache_key(person()), b"foreign")
    assert ways.lookup(cache, person()) is None


@pytest.mark.parametrize("near", [None, 100])
def test_a_lookup_without_redis_finds_nothing_or_raises(ways: Ways, near: int | None) -> None:
    options: Any = {"port": free_port(), "near_cache": near}
    cache: Any = RedisCachingDecorator(**options).set_model(FunctionModel())
    assert ways.lookup(cache, person()) is None
    strict: Any = RedisCachingDecorator(**options, on_error="raise").set_model(FunctionModel())
    with pytest.raises(StoreUnavailableError):
        ways.lookup(strict, person())


# store


@pytest.mark.parametrize("near", [None, 100])
@pytest.mark.parametrize("write", ["foreground", "background"])
def test_what_was_computed_elsewhere_is_stored_and_hit(
    server: Server, ways: Ways, near: int | None, write: str
) -> None:
    cache = cached(server, near_cache=near, write=write)
    cache.predict(person())
    assert ways.store(cache, person(), Charges(charges=7.0)) is True
    for _ in range(2):
        assert cache.predict(person()) == Charges(charges=7.0)
    stats = cache.stats()
    assert (stats.predictions, stats.hits) == (3, 2)
    assert stats.stored >= 1


def test_what_another_process_has_forgotten_can_be_stored(server: Server, ways: Ways) -> None:
    elsewhere = _in_another_process(cached(server))
    elsewhere.predict(person())
    assert ways.forget(cached(server), person())
    assert ways.store(elsewhere, person(), Charges(charges=7.0)) is True
    assert elsewhere.predict(person()) == Charges(charges=7.0)


def test_a_prediction_of_another_class_is_refused(server: Server, ways: Ways) -> None:
    cache = cached(server)
    for wrong in ({"charges": 1.0}, None, person()):
        with pytest.raises(ConfigurationError, match="prediction: expected an instance of Charges"):
            ways.store(cache, person(), wrong)


def test_a_prediction_is_stored_only_if_it_passes_the_checks(
    server: Server, client: redis.Redis, ways: Ways
) -> None:
    class Sub(Charges):
        more: int = 1

    picky = cached(server, cache_if=lambda _, made: made.charges > 5)
    assert ways.store(picky, person(), Charges(charges=1.0)) is False
    assert ways.store(picky, person(), Sub(charges=7.0)) is False  # a hit would lose the field
    assert ways.store(cached(server, max_entry_bytes=5), person(), Charges(charges=7.0)) is False
    with bypass():
        assert picky.store(person(), Charges(charges=7.0)) is False
    assert entries(client) == []
    assert ways.store(picky, person(), Charges(charges=7.0)) is True
    assert ways.store(picky, person(), Charges(charges=1.0)) is False
    assert picky.lookup(person()) == Charges(charges=7.0)


def test_a_stored_prediction_has_a_ttl_and_the_rounded_input(
    server: Server, client: redis.Redis, ways: Ways
) -> None:
    cache = cached(server, ttl=60, reduced_precision_fields=["bmi"], number_of_places=0)
    ways.store(cache, person(bmi=24.4), Charges(charges=7.0))
    assert 50_000 < client.pttl(cache.cache_key(person(bmi=23.9))) <= 60_000
    assert cache.lookup(person(bmi=24.2)) == Charges(charges=7.0)


def test_a_computation_in_progress_does_not_overwrite_what_is_stored(
    server: Server, ways: Ways
) -> None:
    gate = Gate()
    cache = cached(server, gate)
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(cache.predict, person())
        assert gate.entered.wait(10)
        assert ways.store(cache, person(), Charges(charges=7.0)) is True
        gate.go.set()
        assert before.result() == charge(person())
    assert cache.predict(person()) == Charges(charges=7.0)


@pytest.mark.parametrize("on_error", ["predict", "raise"])
def test_nothing_is_stored_without_redis(ways: Ways, on_error: Any) -> None:
    cache: Any = RedisCachingDecorator(port=free_port(), on_error=on_error)
    assert ways.store(cache.set_model(FunctionModel()), person(), Charges(charges=7.0)) is False
    assert cache.stats().write_failures == 1


def test_a_cache_that_is_turned_off_has_no_entries(ways: Ways) -> None:
    cache: Any = RedisCachingDecorator(enabled=False).set_model(FunctionModel())
    assert ways.lookup(cache, person()) is None
    assert ways.store(cache, person(), Charges(charges=7.0)) is False
    assert ways.forget(cache, person()) is False
    assert cache.predict(Person(**person().model_dump())) == charge(person())
