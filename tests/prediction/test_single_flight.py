"""Single-flight in a process: of many threads that need one prediction, one computes it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_cache import RedisCachingDecorator
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.single_flight import (
    ABANDONED,
    FAILED,
    Flight,
    Landed,
    Landing,
    SingleFlight,
)
from tests.inside import inside
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.prediction.crowds import all_at_once, slow
from tests.servers import Server
from tests.waiting import poll


def test_one_of_many_misses_on_a_key_computes(server: Server) -> None:
    model = FunctionModel(function=slow)
    with RedisCachingDecorator(url=server.url, timeout=5.0).set_model(model) as decorator:
        answers = all_at_once(64, lambda _: decorator.predict(person()))
        assert answers == [charge(person())] * 64
        assert len({id(answer) for answer in answers}) == 64
        assert len(model.calls) == 1
        stats = decorator.stats()
        assert (stats.misses, stats.hits + stats.shared) == (1, 63)


def test_single_flight_can_be_turned_off(server: Server) -> None:
    model = FunctionModel(function=slow)
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, single_flight="off")
    decorator.set_model(model)
    all_at_once(8, lambda _: decorator.predict(person()))
    assert len(model.calls) > 1


def test_other_keys_do_not_wait(server: Server) -> None:
    gate = Gate()
    model = FunctionModel(function=lambda d: gate(d) if d.age == 1 else charge(d))
    decorator = RedisCachingDecorator(url=server.url).set_model(model)
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

    decorator = RedisCachingDecorator(url=server.url)
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
    decorator = RedisCachingDecorator(url=server.url, ttl=0.05, stale_if_error=60).set_model(model)
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
    landings = inside(decorator)._flow._flights._landings.values()
    return sum(len(landing._waiting) for landing in landings)


def test_predictions_that_are_never_stored_are_not_waited_for(server: Server) -> None:
    together = threading.Barrier(6)
    is_warm = False

    def model(data: Person) -> Charges:
        if is_warm:
            together.wait(10)  # passes only if all compute at once
        return charge(data)

    decorator = RedisCachingDecorator(url=server.url, cache_if=lambda *_: False)
    decorator.set_model(FunctionModel(function=model))
    for age in range(3):
        decorator.predict(person(age=age))
    is_warm = True
    assert all_at_once(6, lambda _: decorator.predict(person())) == [charge(person())] * 6


def test_predictions_that_are_stored_again_are_waited_for_again(server: Server) -> None:
    model, is_stored = FunctionModel(function=slow), False
    decorator = RedisCachingDecorator(
        url=server.url, timeout=5.0, cache_if=lambda *_: is_stored
    ).set_model(model)
    for age in range(3):
        decorator.predict(person(age=age))
    is_stored = True
    decorator.predict(person(age=3))
    before = len(model.calls)
    all_at_once(8, lambda _: decorator.predict(person(age=4)))
    assert len(model.calls) == before + 1


def test_an_entry_in_the_queue_of_background_writes_is_shared(server: Server) -> None:
    model = FunctionModel()
    with RedisCachingDecorator(url=server.url, write="background") as decorator:
        decorator.set_model(model)
        held = threading.Event()
        inside(decorator)._workers["write"].submit(lambda: held.wait(10))
        for age in range(40):
            assert decorator.predict(person(age=age)) == charge(person(age=age))
            assert decorator.predict(person(age=age)) == charge(person(age=age))
        held.set()
    assert len(model.calls) == 40
    assert decorator.stats().shared == 40


def test_a_prediction_that_can_not_be_stored_is_computed_by_each_caller(server: Server) -> None:
    model = FunctionModel(function=slow)
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, cache_if=lambda *_: False)
    decorator.set_model(model)
    assert all_at_once(6, lambda _: decorator.predict(person())) == [charge(person())] * 6
    assert len(model.calls) == 6


def test_a_caller_that_has_waited_long_enough_computes(server: Server) -> None:
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
        decorators[name] = RedisCachingDecorator(url=server.url, single_flight_wait=60)
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

        decorator = RedisCachingDecorator(url=server.url, single_flight_wait=0.2)
        decorator.set_model(FunctionModel(function=again))
        assert decorator.predict(person()) == charge(person())


def test_a_landing_just_missed_is_not_missed() -> None:
    now = 1.0
    barrier = Barrier(clock=lambda: now)
    flights = SingleFlight()
    computation = barrier.begin(b"key", barrier.epoch)
    flight = flights.join(computation, since=0.5)
    assert isinstance(flight, Flight)
    now = 2.0
    flight.land(Landed(b"entry"))
    barrier.end(computation)
    late = barrier.begin(b"key", barrier.epoch)
    assert flights.join(late, since=1.5) == Landed(b"entry")
    flight = flights.join(late, since=2.5)
    assert isinstance(flight, Flight)
    flight.land(Landed(b"newer"))
    assert flights.join(late, since=2.5) == Landed(b"newer")


@pytest.mark.parametrize("are_written", [True, False])
def test_entries_that_have_just_landed_take_a_bounded_number_of_bytes(are_written: bool) -> None:
    barrier, flights = Barrier(clock=lambda: 1.0), SingleFlight()

    def joined(number: int) -> Flight | Landing | Landed | None:
        return flights.join(barrier.begin(b"%d" % number, 0), since=0.5)

    for number in range(10):
        flight = joined(number)
        assert isinstance(flight, Flight)
        flight.land(Landed(bytes(2**20)))
        if are_written:
            barrier.end(flight.landing.computation)
    assert isinstance(joined(9), Landed)
    assert isinstance(joined(0), Flight)


def test_a_huge_entry_does_not_stay_in_memory() -> None:
    barrier, flights = Barrier(), SingleFlight()
    flight = flights.join(barrier.begin(b"key", 0), since=0.0)
    assert isinstance(flight, Flight)
    flight.land(Landed(bytes(5 * 2**20)))
    assert isinstance(flights.join(barrier.begin(b"key", 0), since=0.0), Flight)


def test_an_entry_whose_write_never_ends_is_shared_for_only_a_second() -> None:
    now = 1.0
    barrier, flights = Barrier(clock=lambda: now), SingleFlight(clock=lambda: now)
    for number in range(200):
        flight = flights.join(barrier.begin(b"%d" % number, 0), since=1.0)
        assert isinstance(flight, Flight)
        flight.land(Landed(b"entry"))
    assert flights.join(barrier.begin(b"0", 0), since=2.0) == Landed(b"entry")
    now = 2.1
    flight = flights.join(barrier.begin(b"0", 0), since=now)
    assert isinstance(flight, Flight)
    flight.land(Landed(b"newer"))
    assert isinstance(flights.join(barrier.begin(b"1", 0), since=1.5), Flight)  # it is gone


def test_interrupted_leaders_do_not_end_the_waiting_for_others() -> None:
    barrier, flights = Barrier(), SingleFlight()
    for _ in range(5):
        flight = flights.join(barrier.begin(b"key", 0), since=0.0)
        assert isinstance(flight, Flight)
        flight.land(ABANDONED)


def test_a_flight_that_its_leader_drops_is_abandoned() -> None:
    barrier, flights = Barrier(), SingleFlight()
    leader = flights.join(barrier.begin(b"key", 0), since=0.0)  # interrupted, say
    landing = flights.join(barrier.begin(b"key", 0), since=0.0)
    assert isinstance(landing, Landing)
    assert not landing.is_abandoned()
    del leader
    assert landing.is_abandoned()
    assert isinstance(flights.join(barrier.begin(b"key", 0), since=0.0), Flight)


def test_a_slow_flight_that_lands_late_does_not_end_the_one_after_it() -> None:
    barrier, flights = Barrier(), SingleFlight()
    slow = flights.join(barrier.begin(b"key", 0), since=0.0)
    assert isinstance(slow, Flight)
    flights.leave(slow.landing)
    flight = flights.join(barrier.begin(b"key", 0), since=0.0)
    assert isinstance(flight, Flight)
    slow.land(Landed(b"entry"))
    assert flights.join(barrier.begin(b"key", 0), since=0.0) is flight.landing


def test_only_the_first_landing_of_a_flight_counts() -> None:
    barrier, flights = Barrier(), SingleFlight()
    flight = flights.join(barrier.begin(b"key", 0), since=0.0)
    assert isinstance(flight, Flight)
    flight.land(Landed(b"entry"))
    flight.land(FAILED)
    assert flight.landing.landed == Landed(b"entry")


def test_callers_do_not_wait_much_longer_than_the_model_takes() -> None:
    flights = SingleFlight()
    assert flights.patience(10.0) == 10.0
    flights.model_took(0.02)
    assert flights.patience(10.0) < 0.6
    flights.model_took(2.0)
    assert 2.0 < flights.patience(10.0) <= 10.0
    flights.model_took(0.02)
    assert 2.0 < flights.patience(10.0) <= 10.0  # the next call may be slow again
    for _ in range(100):
        flights.model_took(0.02)
    assert flights.patience(10.0) < 0.6
    assert flights.patience(0.1) == 0.1


def test_a_landed_flight_that_a_purge_overtook_answers_nobody() -> None:
    barrier, flights = Barrier(clock=lambda: 1.0), SingleFlight()
    computation = barrier.begin(b"key", barrier.epoch)
    flight = flights.join(computation, since=0.5)
    assert isinstance(flight, Flight)
    flight.land(Landed(b"entry"))
    computation.is_valid = False
    late = barrier.begin(b"key", barrier.epoch)
    assert isinstance(flights.join(late, since=0.5), Flight)
