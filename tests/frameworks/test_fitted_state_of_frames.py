"""pandas' frames inside an estimator, and sessions of ONNX, which do not show their weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from model_cache import ConfigurationError
from model_cache.wrappers.fitted import fitted_state

pandas: Any = pytest.importorskip("pandas")


def table() -> Any:
    return pandas.DataFrame(
        {
            "number": [1.5, None, 3.0],
            "text": ["a", "b", "c"],
            "mixed": ["a", 1, None],
            "category": pandas.Categorical(["n", "s", "n"], ["n", "s", "w"]),
            "count": pandas.array([1, None, 3], dtype="Int64"),
            "moment": pandas.to_datetime(["2026-01-01", "2026-01-02", None], utc=True),
            "period": pandas.period_range("2026-01", periods=3, freq="M"),
        },
        index=pandas.Index(["x", "y", "z"], name="key"),
    )


def test_a_frame_counts_by_its_values() -> None:
    frame = table()
    expected = fitted_state(frame)
    assert fitted_state(table()) == expected
    assert fitted_state(copy.deepcopy(frame)) == expected
    assert fitted_state(pickle.loads(pickle.dumps(frame))) == expected
    assert frame.loc["x", "text"] == "a"
    assert len(frame[["number"]].values) == len(frame.T.columns)
    assert fitted_state(frame) == expected
    split = pandas.concat([frame[[name]] for name in frame], axis=1)  # in other blocks
    assert fitted_state(split) == expected


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a number": lambda frame: frame.assign(number=[1.5, None, 4.0]),
    "a text": lambda frame: frame.assign(text=["a", "b", "d"]),
    "an object": lambda frame: frame.assign(mixed=["a", 2, None]),
    "a count": lambda frame: frame.assign(count=pandas.array([1, 2, 3], dtype="Int64")),
    "a category": lambda frame: frame.assign(
        category=frame["category"].cat.rename_categories({"w": "e"})
    ),
    "an order": lambda frame: frame.assign(category=frame["category"].cat.as_ordered()),
    "a zone": lambda frame: frame.assign(moment=frame["moment"].dt.tz_convert("Asia/Tokyo")),
    "a name": lambda frame: frame.rename(columns={"text": "texts"}),
    "the columns' order": lambda frame: frame[frame.columns[::-1]],
    "the index": lambda frame: frame.rename(index={"x": "w"}),
    "the index's name": lambda frame: frame.rename_axis("keys"),
    "a type": lambda frame: frame.astype({"number": "float32"}),
    "two levels": lambda frame: frame.set_index("text", append=True, drop=False),
    "one column": lambda frame: frame["number"],
    "another column": lambda frame: frame["text"],
}


def test_every_difference_of_a_frame_counts() -> None:
    found = {fitted_state(change(table())) for change in CHANGES.values()}
    assert len(found - {fitted_state(table())}) == len(CHANGES)


@pytest.mark.parametrize("change", CHANGES)
def test_a_loaded_frame_has_the_same_fingerprint(change: str) -> None:
    frame = CHANGES[change](table())
    assert fitted_state(pickle.loads(pickle.dumps(frame))) == fitted_state(frame)


def test_a_session_of_onnx_needs_a_revision() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper
    vector = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [vector("x", 1, [1])],
        [vector("y", 1, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = r"revision: steps\[0\]: the type onnxruntime\..*InferenceSession has no stable"
    with pytest.raises(ConfigurationError, match=expected):
        fitted_state(_Holder(session))


class _Holder:
    def __init__(self, session: Any) -> None:
        self.steps = [session]
