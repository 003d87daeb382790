"""Flags are set inside a block and in copies of its context, and no longer than the block."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_cache import RedisCachingDecorator, do_not_store, last_outcome, record_outcomes
from model_cache.context import Flag, FlagVar
from model_cache.observing.events import Event
from model_cache.prediction.veto import is_inside_a_flight, model_calls
from tests.inside import inside
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.servers import Server
from tests.signals import may_be_lost

# A signal that raises inside coverage leaves its lock held.
pytestmark = pytest.mark.no_cover

FLAGS: FlagVar[Flag] = FlagVar("flags")


def cached(server: Server, function: Callable[[Any], Any], **options: Any) -> Any:
    model = FunctionModel(function=function)
    return RedisCachingDecorator(url=server.url, **options).set_model(model)


def test_the_innermost_flag_counts() -> None:
    outer, inner = Flag(), Flag()
    with FLAGS.raised(outer):
        with FLAGS.raised(inner):
            assert FLAGS.get() is inner
        assert FLAGS.get() is outer
    assert FLAGS.get() is None


def test_a_flag_does_not_outlive_its_block_in_a_copied_context() -> None:
    with FLAGS.raised(Flag()):
        context = contextvars.copy_context()
        assert context.run(FLAGS.get) is not None
    assert context.run(FLAGS.get) is None


def test_a_flag_whose_block_was_never_left_goes_with_it() -> None:
    FLAGS.raised(Flag()).__enter__()  # and interrupted at once
    gc.collect()
    assert FLAGS.get() is None


def test_a_block_that_ends_in_another_context_leaves_the_flag_there_alone() -> None:
    def steps() -> Generator[None, None, None]:
        with FLAGS.raised(Flag()):
            yield

    abandoned, here = steps(), Flag()
    contextvars.copy_context().run(next, abandoned)
    with FLAGS.raised(here):
        abandoned.close()  # as by the garbage collector, in whatever task runs
        assert FLAGS.get() is here


def test_a_flag_in_a_generator_that_is_closed_uncovers_the_one_around() -> None:
    def steps() -> Generator[None, None, None]:
        with FLAGS.raised(Flag()):
            yield

    outer = Flag()
    with FLAGS.raised(outer):
        closed = steps()
        next(closed)
        closed.close()
        del closed
        gc.collect()
        assert FLAGS.get() is outer
    assert FLAGS.get() is None


_COLLECTED_WHILE_THE_CONTEXT_CHANGES = """
import contextvars, gc
from model_cache.context import Flag, FlagVar

FLAGS = FlagVar("flags")
OTHERS = [contextvars.ContextVar(str(number)) for number in range(200)]

def steps():
    with FLAGS.raised(Flag()):
        yield

for other in OTHERS:
    other.set(0)
gc.collect()
gc.freeze()
for number in range(3000):
    gc.collect()
    gc.disable()
    cycle = [steps()]
    next(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.set_threshold(gc.get_count()[0] + number % 6)
    gc.enable()
    OTHERS[number % len(OTHERS)].set(number)
"""


def test_an_abandoned_block_that_is_collected_while_the_context_changes_does_no_harm() -> None:
    """Python 3.11 crashed."""
    command = [sys.executable, "-c", _COLLECTED_WHILE_THE_CONTEXT_CHANGES]
    # The memory that is used after it was freed shows.
    environment = {**os.environ, "PYTHONMALLOC": "debug"}
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_flags_do_not_chain_up() -> None:
    """As in a poller that starts its next round from within the one that ends."""
    depth = 0
    flag: Flag | None = Flag()
    context = contextvars.copy_context()
    for _ in range(100):

        def raised() -> contextvars.Context:
            with FLAGS.raised(Flag()):
                return contextvars.copy_context()

        context = context.run(raised)
    with_one_more = Flag()

    def inner() -> None:
        with FLAGS.raised(with_one_more):
            pass

    context.run(inner)
    flag = with_one_more.outer
    while flag is not None:
        depth, flag = depth + 1, flag.outer
    assert depth == 0


def test_a_hook_that_starts_a_task_does_not_silence_the_task(server: Server) -> None:
    heard: list[Event] = []
    tasks: list[asyncio.Task[None]] = []
    hooked: Any = None

    async def later() -> None:
        await asyncio.sleep(0)
        hooked.predict(person(age=2))

    def hook(event: Event) -> None:
        heard.append(event)
        if not tasks:
            tasks.append(asyncio.get_running_loop().create_task(later()))

    async def main() -> None:
        hooked.predict(person(age=1))
        await tasks[0]

    hooked = cached(server, charge, hooks=[hook])
    asyncio.run(main())
    models = [event for event in heard if getattr(event, "kind", None) == "miss"]
    assert len(models) == 2


def test_a_task_that_outlives_a_prediction_is_outside_of_it(server: Server) -> None:
    contexts: list[contextvars.Context] = []

    def model(data: Person) -> Charges:
        contexts.append(contextvars.copy_context())
        assert contexts[0].run(is_inside_a_flight)
        return charge(data)

    cached(server, model).predict(person())
    assert contexts[0].run(model_calls.get) is None
    assert not contexts[0].run(is_inside_a_flight)


@pytest.mark.parametrize("through", ["a call", "a pool"])
def test_a_stale_answer_inside_is_not_stored_outside(server: Server, through: str) -> None:
    state = {"fails": False, "value": 1.0}

    def member(data: Person) -> Charges:
        if state["fails"]:
            raise RuntimeError
        return Charges(charges=state["value"])

    inner = cached(server, member, ttl=0.05, stale_if_error=60, prefix="inner")
    pool = ThreadPoolExecutor(1)

    def ensemble(data: Person) -> Any:
        if through == "a call":
            return inner.predict(data)
        return pool.submit(contextvars.copy_context().run, inner.predict, data).result()

    outer = cached(server, ensemble, prefix="outer")
    with pool:
        inner.predict(person())
        threading.Event().wait(0.1)  # past its ttl
        state.update(fails=True)
        assert outer.predict(person()) == Charges(charges=1.0)
        outcome = last_outcome()
        assert outcome is not None
        assert (outcome.kind, outcome.fate) == ("miss", "skipped")
        state.update(fails=False, value=2.0)
        assert outer.predict(person()) == Charges(charges=2.0)


def test_do_not_store_reaches_through_every_cache_around(server: Server) -> None:
    def fall_back(data: Person) -> Charges:
        do_not_store()
        return charge(data)

    inner = cached(server, fall_back, prefix="inner")
    middle = cached(server, inner.predict, prefix="middle")
    outer = cached(server, middle.predict, prefix="outer")
    with record_outcomes() as outcomes:
        outer.predict(person())
    assert [outcome.fate for outcome in outcomes] == ["skipped"] * 3


class SoftTimeLimitExceeded(Exception):
    """As Celery's: raised by a signal handler, and no BaseException."""


def limit(signum: int, frame: object) -> None:
    raise SoftTimeLimitExceeded


@pytest.fixture
def limits() -> Any:
    before = signal.signal(signal.SIGALRM, limit)
    with may_be_lost([SoftTimeLimitExceeded]):
        yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def soft_time_limit(seconds: float) -> Iterator[None]:
    """Raise in the block after a time; a signal that arrives after the block raises nothing."""
    is_over = False

    def limit_block(signum: int, frame: object) -> None:
        if not is_over:
            limit(signum, frame)

    signal.signal(signal.SIGALRM, limit_block)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)  # one may be on its way to another thread


def spin(*_: object) -> bool:
    """Run until a signal handler raises."""
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while True:
        pass


@pytest.mark.parametrize("where", ["the model", "cache_if", "a hook", "a validator"])
@pytest.mark.usefixtures("limits")
def test_a_soft_time_limit_arrives_wherever_it_strikes(server: Server, where: str) -> None:
    armed = True

    def strike(*_: object) -> Any:
        return spin() if armed else True

    class Checked(Charges):
        def model_post_init(self, _: object) -> None:
            if where == "a validator" and told:
                strike()

    told: list[bool] = []

    def model(data: Person) -> Charges:
        if where == "the model":
            strike()
        made = Checked(charges=1.0)
        told.append(True)
        return made

    cache = RedisCachingDecorator(
        url=server.url,
        ttl=0.001,
        stale_if_error=60,
        cache_if=strike if where == "cache_if" else None,
        hooks=[strike] if where == "a hook" else None,
    ).set_model(FunctionModel(function=model, output_schema=Checked))
    with pytest.raises(SoftTimeLimitExceeded):
        cache.predict(person())
    armed = False
    stats = cache.stats()
    assert stats.errors == 0
    assert stats.store == "closed"
    assert not is_inside_a_flight()
    assert inside(cache)._flow._flights._landings == {}
    assert cache.predict(person()) == Checked(charges=1.0)


@pytest.fixture
def no_collections() -> Iterator[None]:
    """No garbage collection, in whose callbacks and finalizers a signal's exception is lost."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("limits", "no_collections")
def test_interrupted_predictions_leave_nothing_behind(server: Server) -> None:
    """A signal at any moment of a miss: the next caller neither waits nor is misled."""
    heard: list[Event] = []
    cache = cached(server, charge, hooks=[heard.append], single_flight_wait=30)
    interrupted = 0
    for number in range(400):
        try:
            with soft_time_limit(1e-5 * (1 + number % 80)):
                cache.predict(person(age=number))
        except SoftTimeLimitExceeded:
            interrupted += 1
        assert not is_inside_a_flight()
        assert cache.predict(person(age=number)) == charge(person(age=number))
    assert interrupted > 50
    assert cache._predictor._flow._flights._landings == {}
    heard.clear()
    cache.predict(person(age=-1))
    assert heard  # hooks are not silenced
    assert cache.stats().store == "closed"
