"""Find what differs between two rows, column by column, as their keys see it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

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
    ours, theirs = ({each.label: each for each in _columns(whole)} for whole in (a, b))
    for columns, others, name in ((ours, theirs, "a"), (theirs, ours, "b")):
        for label, column in columns.items():
            if label not in others:
                yield Difference(column.place(path, comparer), None, None, f"only {name} has it")
    shared = [label for label in ours if label in theirs]
    if shared != [label for label in theirs if label in ours]:
        yield Difference(path, None, None, "the columns are in another order")
    for label in shared:
        place = ours[label].place(path, comparer)
        yield from _of_column(ours[label].values, theirs[label].values, comparer, place)


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
        # The name of an enum's dtype contains its values.
        shown = " and ".join("..." if comparer.hides_name(each) else each for each in dtypes)
        yield Difference(path, None, None, f"their dtypes differ: {shown}")
    elif ours.rows() != theirs.rows():
        values = comparer.differences(_first(a), _first(b), path=path)
        yield from values or [Difference(path, None, None, "they look alike here, but differ")]


class _Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its name, which may be data.
        label: the part of a path that identifies it, after the name of the table.
        values: the values.
    """

    name: Any
    label: str
    values: Any

    def place(self, path: str, comparer: Comparer) -> str:
        """Return the path of the column in a table at a path."""
        return path + ("[...]" if self.label and comparer.hides_name(self.name) else self.label)


def _columns(whole: Any) -> Iterator[_Column]:
    if isinstance(whole, dict):
        for name, array in whole.items():
            yield _Column(name, f"[{name!r}]", array)
    elif hasattr(whole, "get_columns"):  # a DataFrame of polars
        for series in whole.get_columns():
            yield _Column(series.name, _label(series.name), series)
    elif hasattr(whole, "columns"):
        labels = list(map(_label, whole.columns))
        for place, (name, label) in enumerate(zip(whole.columns, labels, strict=True)):
            # Columns of the same name are compared one by one, so each has its place.
            own = label if labels.count(label) == 1 else f"{label}[{place}]"
            yield _Column(name, own, _without_index(whole.iloc[:, place]))
    else:
        yield _Column("", "", _without_index(whole))


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
