"""Results of more classes than the tables of classes hold."""

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Any

import pytest

from model_cache.entries.values import Classes, classes, dumps, structures


def local(name: str) -> Any:
    """Return a class as a function creates one at each call, or a reloaded module again."""
    return make_dataclass(name, [("x", int)], namespace={"__module__": "m"})


def test_a_class_that_is_created_again_replaces_the_earlier_one_in_a_full_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classes, "_MOST", 10)
    known, first, again = Classes(), local("Again"), local("Again")
    dumps([first(1), *(local(f"Other{number}")(1) for number in range(20))], known)
    data = dumps(again(1), known)
    assert type(known.loads(data)) is again
    with pytest.raises(KeyError):
        known.loads(dumps(local("Other19")(1)))


def test_another_thread_may_empty_the_table_of_compiled_classes() -> None:
    class Emptying(type):
        def __hash__(cls) -> int:
            structures._compiled.clear()
            return 1

    cls = make_dataclass("Local", [("x", int)], namespace={}, bases=(Emptying("Base", (), {}),))
    assert structures.structure(cls) is not None
