"""A small fleet whose calls a schedule interleaves, and what its answers must be.

The model of all processes answers with the state of the world: a number that each barrier
increases. So an answer shows whether it was computed before a barrier began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel

from model_cache import (
    Cache,
    RedisCachingDecorator,
    StoreUnavailableError,
    last_outcome,
    read_only,
    refresh,
)
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
    version: int
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
        cache: which of its caches.
        keys: the inputs.
        versions: those of the model since it began.
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

    def __init__(
        self, number: int, what: str, process: int, cache: Any, keys: Sequence[int]
    ) -> None:
        self.number, self.what, self.process, self.keys = number, what, process, keys
        self.cache = cache
        self.versions: list[int] = []
        self.state = self.last_state = 0
        self.began = self.last = 0.0
        self.before: list[Call] = []
        self.has_ended = self.is_far = self.has_failed = self.has_raised = False
        self.done: float | None = None

    def __repr__(self) -> str:
        return f"{self.what}#{self.number}(process {self.process}, {list(self.keys)})"


Answer: TypeAlias = Callable[[In, int], Out]
"""Answers an input by a version of the model."""
Make: TypeAlias = Callable[[str, dict[str, Any], Answer], Any]
"""Creates a cached model or function, from a url, options, and the model."""


def decorated(url: str, options: dict[str, Any], answer: Answer) -> Any:
    """Return a decorated ml-base model."""
    return RedisCachingDecorator(url=url, **options).set_model(versioned(answer, 1))


def versioned(answer: Answer, version: int) -> FunctionModel:
    """Return a version of the model, which may load another version itself."""

    def predict(data: In) -> Out:
        return answer(data, int(made.version))

    made = FunctionModel(In, Out, predict, qualified_name="m", version=str(version))
    return made


class Table:
    """A cached function of many rows, with the methods of a decorated model."""

    def __init__(self, url: str, options: dict[str, Any], answer: Answer) -> None:
        def table(rows: list[int]) -> list[tuple[int, ...]]:
            answers = [answer(In(k=row), 1) for row in rows]
            return [(each.k, each.version, each.state, each.owner) for each in answers]

        cache = Cache(url, **options)
        self.version = "1"
        self._rows = cache.memoize_rows(name="m", version="1", revision="1")(table)
        self._part: Any = self._rows.cache_clear.__self__  # type: ignore[attr-defined]
        self._backend, self._predictor = cache.backend, self._part.sync
        self.purge = self._rows.cache_clear

    def predict(self, data: In) -> Out:
        return self.predict_many([data])[0]

    def predict_many(self, inputs: list[In]) -> list[Out]:
        rows = self._rows([data.k for data in inputs])
        return [Out(**dict(zip(Out.model_fields, row, strict=True))) for row in rows]

    def lookup(self, data: In) -> Out:
        with read_only():  # it is computed if there is no entry
            return self.predict(data)

    def forget(self, data: In) -> bool:
        return self._rows.forget([data.k]) > 0


class Fleet:
    """Caches of two processes: two in the first, and one in the second.

    Args:
        url: of the server, which is empty.
        clock: the time.
        make: creates each of them.
        options: those of each.
        stores: those of an earlier fleet with the same options, whose connections are open.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        make: Make,
        options: Sequence[dict[str, Any]],
        stores: list[Any],
    ) -> None:
        self.clock, self.state = clock, 0
        self.schedule = Schedule(clock, self._moved)
        self.calls: list[Call] = []
        self.barriers: list[Call] = []
        self._stores = stores
        self.caches: list[Any] = []
        self._versions = 1
        for process in (options[:2], options[2:]):
            _barriers.clear()
            for each in process:
                self.caches.append(self._made(make, url, each))

    def _made(self, make: Make, url: str, options: dict[str, Any]) -> Any:
        options = {"timeout": 0.1, "fleet_stats": False, **options}
        if options.get("single_flight") != "off":
            options["single_flight_wait"] = 0.3
        made = make(url, options, self._answer)
        backend: Any = made._backend
        predictor: Any = getattr(made._predictor, "_inner", made._predictor)
        set_clocks(made, self.clock, self.schedule.sleep)
        if len(self._stores) == len(self.caches):
            self._stores.append(backend.stores.sync)
        inner = self._stores[len(self.caches)]
        store: Any = ScheduledStore(inner, self.schedule, self._failed)
        backend.stores = Stores(store, backend.stores.asynchronous)
        performer = Performer(self.schedule, store)
        predictor._store, predictor._perform = store, performer
        predictor._flow._leases = _Leases(performer)
        return made

    def begin(self, number: int, what: str, keys: Sequence[int]) -> Task:
        """Begin a call of a cache; it does nothing before its first turn."""
        keys = keys if what == "predict_many" else keys[:1]
        cache = self.caches[number]
        call = Call(len(self.calls), what, number // 2, cache, keys)
        self.calls.append(call)

        def run() -> None:
            call.state, call.began = self.state, self.clock.perf_counter()
            call.versions = [int(cache.version)]
            call.before = list(self.barriers)
            try:
                getattr(self, f"_{what}")(call, cache, keys)
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
        for number in range(len(self.caches)):
            self._call(number, "predict_many", [0, 1])

    def settle(self) -> None:
        """Finish all calls; check each entry in each cache at once, and later."""
        self.schedule.finish()
        for what, seconds in (("lookup", SEEN), ("lookup", NEAR_TTL), ("predict_one", 0.0)):
            for number in range(len(self.caches)):
                for key in (0, 1):
                    self._call(number, what, [key])
            self.schedule.advance(seconds + 0.1)

    def _call(self, number: int, what: str, keys: Sequence[int]) -> None:
        self.begin(number, what, keys)
        self.schedule.finish()

    # What the calls do.

    def _answer(self, data: In, version: int) -> Out:
        call, state = self.schedule.current.owner, self.state
        if self.schedule.stop() == "raises":
            call.has_raised = True
            raise Boom
        return Out(k=data.k, version=version, state=state, owner=call.number)

    def _predict_one(self, call: Call, cache: Any, keys: Sequence[int]) -> None:
        self._check(call, keys[0], cache.predict(In(k=keys[0])))

    def _predict_many(self, call: Call, cache: Any, keys: Sequence[int]) -> None:
        answers = cache.predict_many([In(k=key) for key in keys])
        for key, answer in zip(keys, answers, strict=True):
            self._check(call, key, answer)

    def _lookup(self, call: Call, cache: Any, keys: Sequence[int]) -> None:
        answer = cache.lookup(In(k=keys[0]))
        if answer is not None:
            self._check(call, keys[0], answer)

    def _refresh(self, call: Call, cache: Any, keys: Sequence[int]) -> None:
        self._begin_barrier(call)
        with refresh():
            answer = cache.predict(In(k=keys[0]))
        self._check(call, keys[0], answer)
        assert answer.state >= call.state, f"{call} returned an older answer"
        outcome = last_outcome()
        assert outcome is not None
        self._complete(call, is_far=outcome.fate == "stored")

    def _store(self, call: Call, cache: Any, keys: Sequence[int]) -> None:
        self._begin_barrier(call)
        version = int(cache.version)
        made = Out(k=keys[0], version=version, state=call.state, owner=call.number)
        if cache.store(In(k=keys[0]), made):
            self._complete(call)

    def _forget(self, call: Call, cache: Any, keys: Sequence[int]) -> None:
        self._begin_barrier(call)
        cache.forget(In(k=keys[0]))
        self._complete(call)

    def _purge(self, call: Call, cache: Any, _: Sequence[int]) -> None:
        self._begin_barrier(call)
        call.keys = [0, 1]
        cache.purge()
        self._complete(call)

    def _deploy(self, call: Call, cache: Any, keys: Sequence[int]) -> None:
        """Set another version of the model; that may be an earlier one."""
        cache.set_model(versioned(self._answer, 1 + keys[0]))
        self._changed(cache)

    def _reload(self, call: Call, cache: Any, _: Sequence[int]) -> None:
        """Have the model itself load a new version."""
        self._versions += 1
        cache._model.current_version = str(10 + self._versions)
        self._changed(cache)

    def _changed(self, cache: Any) -> None:
        for call in self.calls:
            if call.cache is cache and not call.has_ended:
                call.versions.append(int(cache.version))

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
        assert answer.version in call.versions, f"{call} returned version {answer.version}"
        for barrier in call.before:
            if barrier.versions[0] != answer.version:
                continue
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
