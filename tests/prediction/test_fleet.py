"""Single-flight in a fleet: of many processes that need one prediction, one computes it."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import redis

from model_cache import RedisCachingDecorator, StoreUnavailableError
from model_cache.prediction.effects import Ask, Budget, Effect, Pause, Steps
from model_cache.prediction.lease import Lease, LeaseKeeper
from model_cache.prediction.single_flight import Landed
from model_cache.protocols import Store
from model_cache.steps import take
from model_cache.stores.server import RedisStore
from model_cache.stores.url import parse_url
from tests.models import Charges, FunctionModel, charge, person
from tests.prediction.crowds import all_at_once, slow
from tests.servers import Server
from tests.stored import entries
from tests.waiting import poll

T = TypeVar("T")


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
    decorator = RedisCachingDecorator(url=server.url, single_flight="fleet")
    decorator.set_model(FunctionModel())
    client.set(decorator.cache_key(person()), entry)
    assert decorator.predict(person()) == charge(person())
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().hits == 1


def run(steps: Steps[T], store: RedisStore, pause: Callable[[float], None] = time.sleep) -> T:
    """Take the steps of a lease."""

    def perform(effect: Effect) -> Any:
        if isinstance(effect, Pause):
            return pause(effect.seconds)
        assert isinstance(effect, Ask)
        return effect.request(store, effect.seconds)

    return take(steps, perform)


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    store = RedisStore(parse_url("url", server.url))
    yield store
    store.close()


def test_an_inner_model_may_wait_if_no_one_waits_for_the_outer_one(server: Server) -> None:
    model = FunctionModel(function=slow)
    inner = RedisCachingDecorator(url=server.url, timeout=5.0, prefix="in").set_model(model)
    outer = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight="off")
    outer.set_model(FunctionModel(function=inner.predict))
    all_at_once(8, lambda _: outer.predict(person()))
    assert len(model.calls) == 1


def test_a_lease_whose_holder_died_is_waited_for_no_longer_than_it_lasts(
    server: Server, client: redis.Redis, store: RedisStore
) -> None:
    decorator = RedisCachingDecorator(
        url=server.url, single_flight="fleet", single_flight_wait=3600
    ).set_model(FunctionModel())
    key = decorator.cache_key(person()).encode()
    dead = Lease(key, Budget(5.0))
    assert run(dead.acquire(1.0, lambda _: True), store) is None
    assert 0 < client.pttl(dead.name) <= 1000
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().misses == 1


def test_a_lease_that_never_ends_costs_the_wait_and_no_more(
    server: Server, client: redis.Redis
) -> None:
    decorator = RedisCachingDecorator(
        url=server.url, single_flight="fleet", single_flight_wait=0.3
    ).set_model(FunctionModel())
    client.set("{" + decorator.cache_key(person()) + "}:lease", "")
    assert decorator.predict(person()) == charge(person())


def test_a_lease_is_not_held_if_the_store_does_not_answer(store: RedisStore) -> None:
    lease = Lease(b"key", Budget(0.0))
    assert run(lease.acquire(1.0, lambda _: True), store) is None
    assert not lease.is_held


def test_a_lease_is_renewed_while_its_holder_lives(client: redis.Redis, store: RedisStore) -> None:
    keeper = LeaseKeeper(store)
    lease = Lease(b"key", Budget(5.0))
    assert run(lease.acquire(1.0, lambda _: True), store) is None
    keeper.hold(lease)
    client.pexpire(lease.name, 300)
    poll(lambda: client.pttl(lease.name) > 400)
    keeper.drop(lease)
    poll(lambda: not client.exists(lease.name))


def test_hundreds_of_leases_are_renewed_at_once(client: redis.Redis, store: RedisStore) -> None:
    keeper = LeaseKeeper(store)
    leases = [Lease(b"key%d" % number, Budget(5.0)) for number in range(500)]
    for lease in leases:
        client.set(lease.name, lease.token, px=1000)
        keeper.hold(lease)
    last = leases[-1].name
    client.pexpire(last, 500)
    poll(lambda: client.pttl(last) > 500)
    before = client.info("stats")["total_reads_processed"]
    time.sleep(0.5)  # for two rounds
    assert client.info("stats")["total_reads_processed"] - before < len(leases) / 5
    assert all(client.get(lease.name) == lease.token for lease in leases)
    for lease in leases:
        keeper.drop(lease)


def test_the_lease_of_an_interrupted_holder_is_not_renewed(
    client: redis.Redis, store: RedisStore
) -> None:
    keeper = LeaseKeeper(store)
    lease = Lease(b"key", Budget(5.0))
    name = lease.name
    assert run(lease.acquire(1.0, lambda _: True), store) is None
    keeper.hold(lease)
    del lease
    poll(lambda: not client.exists(name))


@pytest.mark.parametrize("landed", [Landed(), Landed(failed=True)])
def test_a_holder_without_an_entry_lets_the_others_go_on_at_once(
    store: RedisStore, landed: Landed
) -> None:
    def no_waiting(_: float) -> None:
        raise AssertionError("it waits")

    holder = Lease(b"key", Budget(5.0))
    assert run(holder.acquire(1.0, lambda _: True), store) is None
    holder.release(landed)(store, 5.0)
    waiting = Lease(b"key", Budget(5.0))
    assert run(waiting.acquire(30.0, lambda _: True), store, no_waiting) == landed


def test_a_lease_that_could_not_be_given_back_is_tried_again(
    client: redis.Redis, store: RedisStore
) -> None:
    keeper = LeaseKeeper(store)
    client.set("{key}:lease", "")
    failures = iter([StoreUnavailableError("no time is left", "timeout")])

    def request(store: Store, timeout: float) -> object:
        for failure in failures:
            raise failure
        return store.delete([b"{key}:lease"], timeout)

    keeper.give_back(request)
    poll(lambda: not client.exists("{key}:lease"))


@pytest.mark.parametrize("step", ["_take", "_look"])
def test_a_caller_that_is_interrupted_while_it_takes_a_lease_gives_it_back(
    server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    uninterrupted = getattr(Lease, step)

    def interrupted(lease: Lease, store: Store, timeout: float) -> None:
        uninterrupted(lease, store, timeout)
        raise KeyboardInterrupt

    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight="fleet")
    decorator.set_model(FunctionModel())
    monkeypatch.setattr(Lease, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        decorator.predict(person())
    monkeypatch.undo()
    name = Lease(decorator.cache_key(person()).encode(), Budget(5.0)).name
    poll(lambda: client.get(name) == b"failed")  # it does not just expire


def test_a_lease_that_another_holds_by_now_is_not_given_back(
    client: redis.Redis, store: RedisStore
) -> None:
    lease = Lease(b"key", Budget(5.0))
    assert run(lease.acquire(1.0, lambda _: True), store) is None
    client.set(lease.name, "another's")
    lease.give_back(Landed())(store, 5.0)
    assert client.get(lease.name) == b"another's"


def test_a_stale_entry_is_not_an_answer_for_the_fleet(server: Server) -> None:
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


def test_an_entry_stored_between_look_up_and_lease_is_found(store: RedisStore) -> None:
    store.set(b"key", b"entry", None, 5.0)
    lease = Lease(b"key", Budget(5.0))
    found = run(lease.acquire(1.0, lambda entry: entry == b"entry"), store)
    assert found is not None
    assert found.entry == b"entry"


def test_a_request_that_is_sent_again_does_not_wait_for_its_own_lease(
    store: RedisStore, client: redis.Redis
) -> None:
    def no_waiting(_: float) -> None:
        raise AssertionError("it waits")

    lease = Lease(b"key", Budget(5.0))
    client.set(lease.name, lease.token)  # what the first sending left behind
    assert run(lease.acquire(30.0, lambda _: True), store, no_waiting) is None
    assert lease.is_held
    lease.release(Landed(b"entry"))(store, 5.0)
    assert entries(client) == []


def test_a_lease_is_in_the_slot_of_its_entry() -> None:
    from redis.crc import key_slot

    key = b"prefix/model/1.0/AAAAAAAAAAAAAAAAAAAAAA"
    store = RedisStore(parse_url("url", "redis://127.0.0.1:1"))
    lease = Lease(key, Budget(0.5))
    assert key_slot(lease.name) == key_slot(key)
    assert run(lease.acquire(1.0, lambda _: True), store) is None  # no store decides nothing


@pytest.mark.parametrize("mode", ["process", "fleet"])
def test_a_purge_is_not_undone_by_a_shared_landing(server: Server, mode: Any) -> None:
    values = iter([1.0, 2.0])
    model = FunctionModel(function=lambda _: Charges(charges=next(values)))
    decorator = RedisCachingDecorator(url=server.url, single_flight=mode)
    decorator.set_model(model)
    assert decorator.predict(person()) == Charges(charges=1.0)
    decorator.purge()
    assert decorator.predict(person()) == Charges(charges=2.0)


def test_a_caller_after_a_barrier_shares_no_entry_that_was_found_before_it_ended(
    server: Server, client: redis.Redis
) -> None:
    values = iter([1.0, 2.0])
    model = FunctionModel(function=lambda _: Charges(charges=next(values)))
    cache: Any = RedisCachingDecorator(url=server.url, single_flight="fleet")
    cache.set_model(model).predict(person())
    predictor, key = cache._predictor, cache.cache_key(person())
    older: Any = client.getdel(key)

    forgetting = predictor._entries.forget([person()])
    effect = next(forgetting)  # the barrier has begun, and the entry is still there
    call = predictor._flow.calls.begin(person())
    call.asked = time.perf_counter()
    leading = predictor._flow.answer(call)
    predictor._perform(next(leading))  # takes the lease
    client.set(key, older)  # by another process
    looked = predictor._perform(leading.send(True))
    finish(forgetting, predictor._perform(effect), predictor._perform)

    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(cache.predict, person())
        poll(lambda: any(each._waiting for each in predictor._flow._flights._landings.values()))
        finish(leading, looked, predictor._perform)
        assert later.result() == Charges(charges=2.0)


def finish(steps: Steps[Any], result: Any, perform: Callable[[Effect], Any]) -> None:
    """Run steps that wait for a result to their end."""
    with contextlib.suppress(StopIteration):
        while True:
            result = perform(steps.send(result))
