"""A small fleet whose calls a schedule interleaves, and what its answers must be.

The model of all processes answers with the state of the world: a number that each barrier
increases. So an answer shows whether it was computed before a barrier began.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from model_cache import RedisCachingDecorator, StoreUnavailableError, last_outcome, refresh
from model_cache.prediction.barrier import _barriers
from model_cache.stores.opening import Stores
from tests.models import FunctionModel
from tests.properties.schedules import Clock, Performer, Schedule, ScheduledStore, Task, set_clocks

# In seconds: after these, other processes have seen a barrier, or a prediction that was stored.
SEEN, NEAR_TTL = 1.0, 3.0
# For so long, a process ignores an entry that it could not forget.
_IGNORED = 55.0
FAULTS = ("unsent", "lost", "late")


class In(BaseModel):
    k: int


class Out(BaseModel):
    k: int
    state: int
    owner: int


class Boom(Exception):
    """What the model raises."""


class Call:
    """A call, and the jobs in the background that it has begun.

    Attributes:
        number: stands for it in the answers that its model call has made.
        what: the method.
        process: the process.
        keys: the inputs.
        state: of the world when it began.
        began: when it began.
        before: the barriers that were complete when it began.
        last_state: of the world when it, or a job of it, went on for the last time.
        last: when that was.
        has_ended: whether it has returned or raised.
        done: when it has, if it was a barrier.
        is_far: whether other processes see its barrier.
        has_failed: whether a request of it has failed.
        has_raised: whether the model has raised for it.
    """

    def __init__(self, number: int, what: str, process: int, keys: Sequence[int]) -> None:
        self.number, self.what, self.process, self.keys = number, what, process, keys
        self.state = self.last_state = 0
        self.began = self.last = 0.0
        self.before: list[Call] = []
        self.has_ended = self.is_far = self.has_failed = self.has_raised = False
        self.done: float | None = None

    def __repr__(self) -> str:
        return f"{self.what}#{self.number}(process {self.process}, {list(self.keys)})"


class Fleet:
    """Decorators of two processes: two in the first, and one in the second.

    Args:
        url: of the server, which is empty.
        clock: the time.
        options: those of each decorator.
        stores: those of an earlier fleet with the same options, whose connections are open.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        options: Sequence[dict[str, Any]],
        stores: list[Any],
    ) -> None:
        self.clock, self.state = clock, 0
        self.schedule = Schedule(clock, self._moved)
        self.calls: list[Call] = []
        self.barriers: list[Call] = []
        self._stores = stores
        self.decorators: list[RedisCachingDecorator] = []
        for process in (options[:2], options[2:]):
            _barriers.clear()
            for each in process:
                self.decorators.append(self._decorator(url, each))

    def _decorator(self, url: str, options: dict[str, Any]) -> RedisCachingDecorator:
        options = {"timeout": 0.1, "fleet_stats": False, **options}
        if options.get("single_flight") != "off":
            options["single_flight_wait"] = 0.3
        made = RedisCachingDecorator(url=url, **options)
        made.set_model(FunctionModel(In, Out, self._predict, qualified_name="m", version="1"))
        backend: Any = made._backend
        predictor: Any = getattr(made._predictor, "_inner", made._predictor)
        set_clocks(made, self.clock, self.schedule.sleep)
        if len(self._stores) == len(self.decorators):
            self._stores.append(backend.stores.sync)
        inner = self._stores[len(self.decorators)]
        store: Any = ScheduledStore(inner, self.schedule, self._failed)
        backend.stores = Stores(store, backend.stores.asynchronous)
        performer = Performer(self.schedule, store)
        predictor._store, predictor._perform = store, performer
        predictor._flow._leases = _Leases(performer)
        return made

    def begin(self, number: int, what: str, keys: Sequence[int]) -> Task:
        """Begin a call of a decorator; it does nothing before its first turn."""
        keys = keys if what == "predict_many" else keys[:1]
        call = Call(len(self.calls), what, number // 2, keys)
        self.calls.append(call)
        decorator = self.decorators[number]

        def run() -> None:
            call.state, call.began = self.state, self.clock.perf_counter()
            call.before = list(self.barriers)
            try:
                getattr(self, f"_{what}")(call, decorator, keys)
            except Boom:
                assert call.has_raised, f"{call} raised what the model did not"
            except StoreUnavailableError:
                is_late = self.clock.now > call.began + 4.9
                assert what in {"forget", "purge"}, call
                assert call.has_failed or is_late, call
                if what == "forget":  # this process does not serve the entry
                    self._complete(call, is_far=False)
            finally:
                call.has_ended = True

        return self.schedule.begin(call, run)

    def warm(self) -> None:
        """Let all caches have entries."""
        for number in range(len(self.decorators)):
            self._call(number, "predict_many", [0, 1])

    def settle(self) -> None:
        """Finish all calls; check each entry in each cache at once, and later."""
        self.schedule.finish()
        for what, seconds in (("lookup", SEEN), ("lookup", NEAR_TTL), ("predict_one", 0.0)):
            for number in range(len(self.decorators)):
                for key in (0, 1):
                    self._call(number, what, [key])
            self.schedule.advance(seconds + 0.1)

    def _call(self, number: int, what: str, keys: Sequence[int]) -> None:
        self.begin(number, what, keys)
        self.schedule.finish()

    # What the calls do.

    def _predict(self, data: In) -> Out:
        call, state = self.schedule.current.owner, self.state
        if self.schedule.stop() == "raises":
            call.has_raised = True
            raise Boom
        return Out(k=data.k, state=state, owner=call.number)

    def _predict_one(self, call: Call, decorator: Any, keys: Sequence[int]) -> None:
        self._check(call, keys[0], decorator.predict(In(k=keys[0])))

    def _predict_many(self, call: Call, decorator: Any, keys: Sequence[int]) -> None:
        answers = decorator.predict_many([In(k=key) for key in keys])
        for key, answer in zip(keys, answers, strict=True):
            self._check(call, key, answer)

    def _lookup(self, call: Call, decorator: Any, keys: Sequence[int]) -> None:
        answer = decorator.lookup(In(k=keys[0]))
        if answer is not None:
            self._check(call, keys[0], answer)

    def _refresh(self, call: Call, decorator: Any, keys: Sequence[int]) -> None:
        self._begin_barrier(call)
        with refresh():
            answer = decorator.predict(In(k=keys[0]))
        self._check(call, keys[0], answer)
        assert answer.state >= call.state, f"{call} returned an older answer"
        outcome = last_outcome()
        assert outcome is not None
        self._complete(call, is_far=outcome.fate == "stored")

    def _store(self, call: Call, decorator: Any, keys: Sequence[int]) -> None:
        self._begin_barrier(call)
        made = Out(k=keys[0], state=call.state, owner=call.number)
        if decorator.store(In(k=keys[0]), made):
            self._complete(call)

    def _forget(self, call: Call, decorator: Any, keys: Sequence[int]) -> None:
        self._begin_barrier(call)
        decorator.forget(In(k=keys[0]))
        self._complete(call)

    def _purge(self, call: Call, decorator: Any, _: Sequence[int]) -> None:
        self._begin_barrier(call)
        call.keys = [0, 1]
        decorator.purge()
        self._complete(call)

    def _begin_barrier(self, call: Call) -> None:
        self.state += 1
        call.state = self.state

    def _complete(self, call: Call, *, is_far: bool = True) -> None:
        call.done, call.is_far = self.clock.now, is_far
        self.barriers.append(call)

    def _moved(self, call: Call) -> None:
        call.last_state, call.last = self.state, self.clock.now

    def _failed(self) -> None:
        self.schedule.current.owner.has_failed = True

    # What the answers must be.

    def _check(self, call: Call, key: int, answer: Out) -> None:
        assert answer.k == key, f"{call} returned the answer for {answer.k}"
        for barrier in call.before:
            if key in barrier.keys and answer.state < barrier.state:
                maker = self.calls[answer.owner]
                assert self._may_be_older(call, barrier, maker), (
                    f"{call} returned the older answer of {maker} after {barrier}"
                )

    def _may_be_older(self, call: Call, barrier: Call, maker: Call) -> bool:
        """Return whether an answer may be from before a barrier that was complete."""
        assert barrier.done is not None
        if maker.what == "store" and maker.last_state >= barrier.state:
            return True  # at the same time: either may come last
        if call.process == barrier.process:
            if not barrier.is_far and call.began > barrier.done + _IGNORED:
                return barrier.what == "forget"
            if maker.process == barrier.process:
                return False
        else:
            limit = NEAR_TTL if barrier.what == "store" else SEEN
            if not barrier.is_far or call.began <= barrier.done + limit:
                return True
        is_in_progress = any(task.owner is maker for task in self.schedule.tasks)
        if not is_in_progress and maker.last_state < barrier.state:
            return False  # had ended when the barrier began
        if maker.process == barrier.process:
            return maker.has_failed  # its write arrived late, which only its process knows
        # Another process may overwrite what is stored, and erases that right after.
        is_recent = is_in_progress or call.began <= maker.last + SEEN
        return barrier.what == "store" or maker.has_failed or is_recent


class _Leases:
    """The leases of a process, which are not renewed, since they last longer than a schedule."""

    def __init__(self, performer: Performer) -> None:
        self.give_back = performer.give_back

    def hold(self, lease: object) -> None:
        """Do nothing."""

    def drop(self, lease: object) -> bool:
        return False
