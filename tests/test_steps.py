"""Steps are run to the end, by threads and by event loops."""

from __future__ import annotations

from collections.abc import Generator
from contextvars import ContextVar
from types import SimpleNamespace

from model_cache.steps import take_async

VAR: ContextVar[str] = ContextVar("var", default="before")


def test_a_collected_coroutine_does_not_change_the_context_of_another_one() -> None:
    seen = SimpleNamespace(var=None)

    def steps() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            VAR.set("inside")
            seen.var = VAR.get()

    class Never:
        def __await__(self) -> Generator[None, None, None]:
            yield

    coroutine = take_async(steps(), lambda _: Never())
    coroutine.send(None)
    coroutine.close()
    assert seen.var == "inside"
    assert VAR.get() == "before"
