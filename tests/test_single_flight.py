"""Single-flight: of many who need one prediction at once, one computes it."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import redis

from model_cache import RedisCachingDecorator, StoreUnavailableError
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.effects import Ask, Budget, Effect, Pause, Steps
from model_cache.prediction.lease import Lease, LeaseKeeper
from model_cache.prediction.single_flight import Flight, Landed, Landing, SingleFlight
from model_cache.protocols import Store
from model_cache.steps import take
from model_cache.stores.server import RedisStore
from model_cache.stores.url import parse_url
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server
from tests.test_background import poll

T = TypeVar("T")


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


def test_when_a_leader_fails_the_others_compute_together(server: Server) -> None:
    calls: list[Person] = []
    together = threading.Barrier(7)

    def fails_at_first(data: Person) -> Charges:
        calls.append(data)
        if len(calls) == 1:
            time.sleep(0.2)  # the others arrive
            raise RuntimeError("the first call")
        together.wait(10)  # none of them waits for another
        return charge(data)

    decorator = RedisCachingDecorator(url=server.url, timeout=5.0)
    decorator.set_model(FunctionModel(function=fails_at_first))

    def predict(_: int) -> Any:
        try:
            return decorator.predict(person())
        except RuntimeError as error:
            return str(error)

    answers = all_at_once(8, predict)
    assert answers.count("the first call") == 1
    assert answers.count(charge(person())) == 7


def test_when_a_leader_fails_those_with_a_stale_entry_answer_at_once(server: Server) -> None:
    gate = threading.Event()
    model = FunctionModel()
    decorator = RedisCachingDecorator(
        url=server.url, timeout=5.0, ttl=0.05, stale_if_error=60
    ).set_model(model)
    decorator.predict(person())
    time.sleep(0.1)  # past its ttl

    def fails(data: Person) -> Charges:
        gate.wait(10)
        raise RuntimeError

    model._function = fails
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(decorator.predict, person()) for _ in range(8)]
        poll(lambda: waiting_in(decorator) == 7)
        gate.set()
        assert [answer.result() for answer in answers] == [charge(person())] * 8
    assert len(model.calls) == 2
    assert decorator.stats().stale == 8


def waiting_in(decorator: RedisCachingDecorator) -> int:
    landings = decorator._predictor._flow._flights._landings.values()
    return sum(len(landing._waiting) for landing, _ in landings)


def test_predictions_that_are_never_stored_are_not_waited_for(server: Server) -> None:
    together = threading.Barrier(6)
    is_warm = False

    def model(data: Person) -> Charges:
        if is_warm:
            together.wait(10)  # passes only if all compute at once
        return charge(data)

    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, cache_if=lambda *_: False)
    decorator.set_model(FunctionModel(function=model))
    for age in range(3):
        decorator.predict(person(age=age))
    is_warm = True
    assert all_at_once(6, lambda _: decorator.predict(person())) == [charge(person())] * 6


def test_an_entry_in_the_queue_of_background_writes_is_shared(server: Server) -> None:
    model = FunctionModel()
    with RedisCachingDecorator(url=server.url, timeout=5.0, write="background") as decorator:
        decorator.set_model(model)
        held = threading.Event()
        decorator._predictor._writer.submit(lambda: held.wait(10))
        for age in range(40):
            assert decorator.predict(person(age=age)) == charge(person(age=age))
            assert decorator.predict(person(age=age)) == charge(person(age=age))
        held.set()
    assert len(model.calls) == 40
    assert decorator.stats().shared == 40


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
    now = 1.0
    barrier = Barrier(clock=lambda: now)
    flights = SingleFlight(clock=lambda: now)
    computation = barrier.begin(b"key", barrier.epoch)
    flight = flights.join(computation, since=0.5)
    assert isinstance(flight, Flight)
    now = 2.0
    flight.land(Landed(b"entry"))
    barrier.end(computation)
    late = barrier.begin(b"key", barrier.epoch)
    assert flights.join(late, since=1.5) == Landed(b"entry")
    assert isinstance(flights.join(late, since=2.5), Flight)


def test_a_flight_that_its_leader_drops_is_abandoned() -> None:
    barrier, flights = Barrier(), SingleFlight()
    leader = flights.join(barrier.begin(b"key", 0), since=0.0)  # interrupted, say
    landing = flights.join(barrier.begin(b"key", 0), since=0.0)
    assert isinstance(landing, Landing)
    assert not landing.is_abandoned()
    del leader
    assert landing.is_abandoned()
    assert isinstance(flights.join(barrier.begin(b"key", 0), since=0.0), Flight)


def test_nobody_waits_much_longer_than_the_model_has_taken() -> None:
    flights = SingleFlight()
    assert flights.patience(10.0) == 10.0
    flights.model_took(0.02)
    assert flights.patience(10.0) < 0.6
    flights.model_took(2.0)
    assert 2.0 < flights.patience(10.0) <= 10.0
    for _ in range(100):
        flights.model_took(0.02)
    assert flights.patience(10.0) < 0.6
    assert flights.patience(0.1) == 0.1


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
    store = RedisStore(parse_url("url", server.url), timeout=5.0)
    yield store
    store.close()


def test_an_outer_model_that_waits_for_nobody_lets_the_inner_one_wait(server: Server) -> None:
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
        url=server.url, timeout=5.0, single_flight="fleet", single_flight_wait=3600
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
        url=server.url, timeout=5.0, single_flight="fleet", single_flight_wait=0.3
    ).set_model(FunctionModel())
    client.set("{" + decorator.cache_key(person()) + "}:lease", "")
    assert decorator.predict(person()) == charge(person())


def test_a_lease_is_renewed_while_its_holder_lives(client: redis.Redis, store: RedisStore) -> None:
    keeper = LeaseKeeper(store)
    lease = Lease(b"key", Budget(5.0))
    assert run(lease.acquire(1.0, lambda _: True), store) is None
    keeper.hold(lease)
    client.pexpire(lease.name, 300)
    poll(lambda: client.pttl(lease.name) > 400)
    keeper.drop(lease)
    poll(lambda: not client.exists(lease.name))


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


def test_an_entry_stored_between_look_up_and_lease_is_found(store: RedisStore) -> None:
    store.set(b"key", b"entry", None, 5.0)
    lease = Lease(b"key", Budget(5.0))
    found = run(lease.acquire(1.0, lambda entry: entry == b"entry"), store)
    assert found == Landed(b"entry")


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
    assert client.dbsize() == 0


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
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight=mode)
    decorator.set_model(model)
    assert decorator.predict(person()) == Charges(charges=1.0)
    decorator.purge()
    assert decorator.predict(person()) == Charges(charges=2.0)
