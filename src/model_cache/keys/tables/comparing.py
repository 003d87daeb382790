"""Find what differs between two rows, column by column, as their keys see it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from model_cache.keys.comparing import Comparer, Difference
from model_cache.keys.tables import Table, table_of


def row_differences(a: Table, b: Table, comparer: Comparer, path: str) -> list[Difference]:
    """Return where two rows differ; nothing if they share a key.

    Args:
        a: a table of one row.
        b: another one.
        comparer: compares values.
        path: the name of the parameter with the table.
    """
    if (a.kind, a.rows()) == (b.kind, b.rows()):
        return []
    found = list(_between(a.whole, b.whole, comparer, path))
    rest = "what their rows share differs, such as the layout in memory"
    return found or [Difference(path, None, None, rest)]


def _between(a: Any, b: Any, comparer: Comparer, path: str) -> Iterator[Difference]:
    if type(a) is not type(b):
        yield Difference(path, None, None, f"their types differ: {_kind(a)} and {_kind(b)}")
        return
    if isinstance(a, (list, tuple)):
        yield from comparer.differences(a[0], b[0], path=path)
        return
    yield from _around(a, b, comparer, path)
    ours, theirs = _columns(a), _columns(b)
    for columns, others, name in ((ours, theirs, "a"), (theirs, ours, "b")):
        for label in columns:
            if label not in others:
                yield Difference(path + label, None, None, f"only {name} has it")
    shared = [label for label in ours if label in theirs]
    if shared != [label for label in theirs if label in ours]:
        yield Difference(path, None, None, "the columns are in another order")
    for label in shared:
        yield from _of_column(ours[label], theirs[label], comparer, path + label)


def _around(a: Any, b: Any, comparer: Comparer, path: str) -> Iterator[Difference]:
    """Yield where the names and the pandas indexes of two tables differ, as far as they count."""
    yield from comparer.differences(
        getattr(a, "name", None), getattr(b, "name", None), path=f"{path}.name"
    )
    if not hasattr(a, "index") or isinstance(a, dict):
        return
    pandas: Any = sys.modules["pandas"]
    ours, theirs = (table_of(pandas.Series(0, index=each.index)) for each in (a, b))
    path = f"{path}.index"
    if ours.kind != theirs.kind:
        kinds = [_index_kind(each) for each in (ours, theirs)]
        names = comparer.differences(list(a.index.names), list(b.index.names), path=path)
        if names and kinds[0] == kinds[1]:
            yield from (replace(each, reason="the names of its levels") for each in names)
        else:
            yield Difference(path, None, None, f"they differ: {' and '.join(kinds)}")
    elif ours.rows() != theirs.rows():
        yield from comparer.differences(a.index[0], b.index[0], path=path)


def _index_kind(table: Table) -> str:
    return "the default one" if table.is_default_index else type(table.index).__name__


def _of_column(a: Any, b: Any, comparer: Comparer, path: str) -> Iterator[Difference]:
    ours, theirs = table_of(a), table_of(b)
    dtypes = [str(each.dtype) for each in (a, b)]
    if dtypes[0] != dtypes[1]:
        yield Difference(path, None, None, f"their dtypes differ: {dtypes[0]} and {dtypes[1]}")
    elif ours.rows() != theirs.rows():
        values = comparer.differences(_first(a), _first(b), path=path)
        yield from values or [Difference(path, None, None, "they look alike here, but differ")]


def _columns(whole: Any) -> dict[str, Any]:
    """Return the columns of a table, by what follows its name in a path."""
    if isinstance(whole, dict):
        return {f"[{name!r}]": array for name, array in whole.items()}
    if hasattr(whole, "get_columns"):  # a DataFrame of polars
        return {_label(series.name): series for series in whole.get_columns()}
    if not hasattr(whole, "columns"):
        return {"": _without_index(whole)}
    names = list(map(_label, whole.columns))
    return {
        # Of two columns of the same name, each counts.
        name if names.count(name) == 1 else f"{name}[{place}]": _without_index(whole.iloc[:, place])
        for place, name in enumerate(names)
    }


def _without_index(column: Any) -> Any:
    return column.reset_index(drop=True) if hasattr(column, "reset_index") else column


def _label(name: Any) -> str:
    return f".{name}" if isinstance(name, str) and name.isidentifier() else f"[{name!r}]"


def _first(column: Any) -> Any:
    """Return the value of a column of one row; a list, if there are several for it."""
    return column.tolist()[0] if hasattr(column, "tolist") else column.to_list()[0]


def _kind(value: Any) -> str:
    cls = type(value)
    package = cls.__module__.partition(".")[0]
    return f"{package}.{cls.__qualname__}".removeprefix("builtins.")
