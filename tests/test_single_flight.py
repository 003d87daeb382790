"""Single-flight: of many who need one prediction at once, one computes it."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from model_cache import RedisCachingDecorator
from model_cache.budget import Budget
from model_cache.endpoint import parse_url
from model_cache.single_flight import Lease, SingleFlight
from model_cache.stores.redis import RedisStore
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server


def all_at_once(count: int, function: Any) -> list[Any]:
    ready = threading.Barrier(count)

    def run(number: int) -> Any:
        ready.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def slow(data: Person) -> Charges:
    time.sleep(0.2)  # the model's own time
    return charge(data)


def test_of_many_misses_on_one_key_one_computes(server: Server) -> None:
    model = FunctionModel(function=slow)
    with RedisCachingDecorator(url=server.url, timeout=5.0).set_model(model) as decorator:
        answers = all_at_once(64, lambda _: decorator.predict(person()))
        assert answers == [charge(person())] * 64
        assert len({id(answer) for answer in answers}) == 64
        assert len(model.calls) == 1
        stats = decorator.stats()
        assert (stats.misses, stats.hits + stats.shared) == (1, 63)


def test_a_single_flight_can_be_turned_off(server: Server) -> None:
    model = FunctionModel(function=slow)
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight="off")
    decorator.set_model(model)
    all_at_once(8, lambda _: decorator.predict(person()))
    assert len(model.calls) > 1


def test_other_keys_do_not_wait(server: Server) -> None:
    gate = Gate()
    model = FunctionModel(function=lambda d: gate(d) if d.age == 1 else charge(d))
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0).set_model(model)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(decorator.predict, person(age=1))
        assert gate.entered.wait(10)
        assert decorator.predict(person(age=2)) == charge(person(age=2))
        gate.go.set()
        assert held.result() == charge(person(age=1))


def test_a_leaders_error_is_its_own_and_another_leads(server: Server) -> None:
    calls = []

    def fails_twice(data: Person) -> Charges:
        calls.append(data)
        number = len(calls)
        time.sleep(0.05)
        if number <= 2:
            raise RuntimeError(f"call {number}")
        return charge(data)

    decorator = RedisCachingDecorator(url=server.url, timeout=5.0)
    decorator.set_model(FunctionModel(function=fails_twice))

    def predict(_: int) -> Any:
        try:
            return decorator.predict(person())
        except RuntimeError as error:
            return str(error)

    answers = all_at_once(16, predict)
    assert sorted(map(str, answers))[:2] == ["call 1", "call 2"]
    assert answers.count(charge(person())) == 14
    assert len(calls) == 3


def test_what_can_not_be_stored_is_computed_by_each(server: Server) -> None:
    model = FunctionModel(function=slow)
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, cache_if=lambda *_: False)
    decorator.set_model(model)
    assert all_at_once(6, lambda _: decorator.predict(person())) == [charge(person())] * 6
    assert len(model.calls) == 6


def test_who_has_waited_long_enough_computes(server: Server) -> None:
    gate, models = Gate(), []

    def first_hangs(data: Person) -> Charges:
        models.append(data)
        return gate(data) if len(models) == 1 else charge(data)

    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight_wait=0.1)
    decorator.set_model(FunctionModel(function=first_hangs))
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(decorator.predict, person())
        assert gate.entered.wait(10)
        assert decorator.predict(person()) == charge(person())
        gate.go.set()
        assert held.result() == charge(person())


def test_models_that_call_each_other_and_themselves_do_not_deadlock(server: Server) -> None:
    decorators: dict[str, RedisCachingDecorator] = {}

    def ping(data: Person) -> Charges:
        if data.age <= 0:
            return charge(data)
        other = "b" if data.age % 2 else "a"
        return decorators[other].predict(data.model_copy(update={"age": data.age - 1}))  # type: ignore[no-any-return]

    def same(data: Person) -> Charges:
        if data.children == 7:
            return decorators["a"].predict(data.model_copy(update={"children": 0}))  # type: ignore[no-any-return]
        return ping(data)

    for name in ("a", "b"):
        decorators[name] = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight_wait=60)
        decorators[name].set_model(FunctionModel(function=same, qualified_name=name))
    started = time.monotonic()
    answers = all_at_once(
        12, lambda n: decorators["ab"[n % 2]].predict(person(age=5, children=7 * (n % 3 == 0)))
    )
    assert len(answers) == 12
    assert time.monotonic() - started < 20


def test_a_model_that_asks_for_its_own_input_by_a_pool_waits_no_longer_than_configured(
    server: Server,
) -> None:
    with ThreadPoolExecutor(4) as pool:
        depth = []

        def again(data: Person) -> Charges:
            depth.append(data)
            if len(depth) < 3:
                return pool.submit(decorator.predict, data).result()  # type: ignore[no-any-return]
            return charge(data)

        decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight_wait=0.2)
        decorator.set_model(FunctionModel(function=again))
        assert decorator.predict(person()) == charge(person())


def test_a_landing_just_missed_is_not_missed() -> None:
    flights = SingleFlight(clock=lambda: now)
    now = 1.0
    with flights.board(b"key", 1.0, since=0.5) as leader:
        assert leader.entry is None
        now = 2.0
        leader.share(b"entry", 0.0)
    assert flights.board(b"key", 1.0, since=1.5).entry == b"entry"
    with flights.board(b"key", 1.0, since=2.5) as next_leader:
        assert next_leader.entry is None


def test_an_interrupted_leader_is_waited_for_no_longer_than_configured() -> None:
    flights = SingleFlight()
    flights.board(b"key", 1.0, since=0.0)  # and never entered nor left
    started = time.monotonic()
    assert flights.board(b"key", 0.05, since=0.0).entry is None
    assert flights.board(b"key", 10.0, since=0.0).leads
    assert time.monotonic() - started < 5


def test_one_process_of_the_fleet_computes(server: Server) -> None:
    model = FunctionModel(function=slow)
    decorators = [
        RedisCachingDecorator(url=server.url, timeout=5.0, single_flight="fleet").set_model(model)
        for _ in range(4)  # each as another process would be: they share nothing but Redis
    ]
    answers = all_at_once(32, lambda n: decorators[n % 4].predict(person()))
    assert answers == [charge(person())] * 32
    assert len(model.calls) == 1
    with server.client() as client:
        assert list(client.scan_iter("*lease*")) == []


def ask_from_many_threads(url: str, mode: Any, start: Any, results: Any) -> None:
    model = FunctionModel(function=slow)
    decorator = RedisCachingDecorator(url=url, timeout=10.0, single_flight=mode).set_model(model)
    start.wait(60)
    answers = all_at_once(64, lambda _: decorator.predict(person()))
    results.put((answers == [charge(person())] * 64, len(model.calls)))


@pytest.mark.parametrize(("mode", "calls"), [("process", [1, 1, 1, 1]), ("fleet", [0, 0, 0, 1])])
def test_64_threads_in_each_of_4_processes_ask_for_one_cold_key(
    server: Server, mode: Any, calls: list[int]
) -> None:
    context: Any = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=ask_from_many_threads, args=(server.url, mode, start, results))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert all(right for right, _ in found)
    # One that begins late finds the entry, and computes nothing.
    made = sorted(count for _, count in found)
    assert max(made) <= 1
    assert 1 <= sum(made) <= sum(calls)


@pytest.mark.parametrize("entry", [b"", b"{", b"\xc1", b"\x80junk", b"\xc1\x01\x01\x00\x04"])
def test_a_fleet_takes_no_foreign_entry_for_an_answer(
    server: Server, client: redis.Redis, entry: bytes
) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight="fleet")
    decorator.set_model(FunctionModel())
    client.set(decorator.cache_key(person()), entry)
    assert decorator.predict(person()) == charge(person())
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().hits == 1


def test_who_is_interrupted_while_it_waits_for_a_lease_leaves_nothing_behind(
    server: Server,
) -> None:
    store = RedisStore(parse_url("url", server.url), timeout=5.0)
    store.set(b"{key}:lease", b"another's", 60_000, 5.0)
    flights = SingleFlight()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    seat = flights.board(b"key", 5.0, since=0.0)
    seat.hold(Lease(store, b"key", 5.0, Budget(5.0), lambda _: True, sleep=interrupt))
    with pytest.raises(KeyboardInterrupt), seat:
        pass
    assert flights.board(b"key", 5.0, since=0.0).leads
    assert store.get(b"{key}:lease", 5.0) == b"another's"
    store.close()


def test_an_outer_model_that_waits_for_nobody_lets_the_inner_one_wait(server: Server) -> None:
    model = FunctionModel(function=slow)
    inner = RedisCachingDecorator(url=server.url, timeout=5.0, prefix="in").set_model(model)
    outer = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight="off")
    outer.set_model(FunctionModel(function=inner.predict))
    all_at_once(8, lambda _: outer.predict(person()))
    assert len(model.calls) == 1


def test_a_lease_whose_holder_died_ends_by_itself(server: Server, client: redis.Redis) -> None:
    decorator = RedisCachingDecorator(
        url=server.url, timeout=5.0, single_flight="fleet", single_flight_wait=0.3
    ).set_model(FunctionModel())
    lease = "{" + decorator.cache_key(person()) + "}:lease"
    client.set(lease, "", px=200)
    assert decorator.predict(person()) == charge(person())
    client.flushall()
    client.set(lease, "")  # one that never ends costs the wait, and no more
    assert decorator.predict(person()) == charge(person())


def test_an_entry_past_its_time_is_no_answer_for_the_fleet(server: Server) -> None:
    model = FunctionModel(function=slow)
    decorators = [
        RedisCachingDecorator(
            url=server.url, timeout=5.0, single_flight="fleet", ttl=0.05, stale_if_error=60
        ).set_model(model)
        for _ in range(2)
    ]
    decorators[0].predict(person())
    time.sleep(0.1)  # past its ttl
    all_at_once(2, lambda n: decorators[n].predict(person()))
    assert 2 <= len(model.calls) <= 3
    assert decorators[1].stats().stale == 0


def test_an_entry_stored_between_look_up_and_lease_is_found(server: Server) -> None:
    store = RedisStore(parse_url("url", server.url), timeout=5.0)
    store.set(b"key", b"entry", None, 5.0)
    lease = Lease(store, b"key", 1.0, Budget(5.0), lambda entry: entry == b"entry")
    assert lease.acquire() == b"entry"
    assert store.get(b"{key}:lease", 5.0) is None
    store.close()


def test_a_request_that_is_sent_again_does_not_wait_for_its_own_lease(
    server: Server, client: redis.Redis
) -> None:
    def no_waiting(_: float) -> None:
        raise AssertionError("it waits")

    store = RedisStore(parse_url("url", server.url), timeout=5.0)
    lease = Lease(store, b"key", 30.0, Budget(5.0), lambda _: True, sleep=no_waiting)
    client.set("{key}:lease", lease._token)  # what the first sending left behind
    assert lease.acquire() is None
    lease.release()
    assert client.dbsize() == 0
    store.close()


def test_a_lease_is_in_the_slot_of_its_entry() -> None:
    from redis.crc import key_slot

    key = b"prefix/model/1.0/AAAAAAAAAAAAAAAAAAAAAA"
    store = RedisStore(parse_url("url", "redis://127.0.0.1:1"))
    lease = Lease(store, key, 1.0, Budget(0.5), lambda _: True)
    assert key_slot(lease._name) == key_slot(key)
    assert lease.acquire() is None  # an unreachable store decides nothing


@pytest.mark.parametrize("mode", ["process", "fleet"])
def test_a_purge_is_not_undone_by_a_shared_landing(server: Server, mode: Any) -> None:
    values = iter([1.0, 2.0])
    model = FunctionModel(function=lambda _: Charges(charges=next(values)))
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight=mode)
    decorator.set_model(model)
    assert decorator.predict(person()) == Charges(charges=1.0)
    decorator.purge()
    assert decorator.predict(person()) == Charges(charges=2.0)
