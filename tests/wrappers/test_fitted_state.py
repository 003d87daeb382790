"""The fingerprint of any object: equal values, every difference, and what has no fingerprint."""

from __future__ import annotations

import collections
import contextlib
import copy
import datetime as dt
import enum
import functools
import itertools
import operator
import pickle
import re
import socket
import threading
import tracemalloc
import types
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, special

from model_cache import ConfigurationError
from model_cache.wrappers.fitted import fitted_state


class Model:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Other(Model):
    pass


class Slotted:
    __slots__ = ("__dict__", "weight")

    def __init__(self, weight: float, **attributes: Any) -> None:
        self.weight = weight
        vars(self).update(attributes)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    left: Any
    right: Any


class Words(set[str]):
    pass


def double(x: float) -> float:
    return 2 * x


def scaled(factor: float) -> Callable[[float], float]:
    return lambda x: factor * x


def countdown(n: int) -> Any:
    def count(k: int) -> int:
        return n if k == 0 else count(k - 1)

    return count


cached = functools.cache(double)

VALUES: dict[str, Any] = {
    "none": None,
    "bool": True,
    "int": 1,
    "huge": 10**5000,
    "float": 1.0,
    "negative zero": -0.0,
    "zero": 0.0,
    "complex": 1j,
    "text": "1",
    "bytes": b"1",
    "bytearray": bytearray(b"1"),
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "list": [1, 2],
    "list in list": [[1, 2]],
    "list of lists": [[1], [2]],
    "tuple": (1, 2),
    "pair": Pair(1, 2),
    "range": range(1, 3),
    "slice": slice(1, 3),
    "dict": {"a": 1, "b": 2},
    "dict in another order": {"b": 2, "a": 1},
    "ordered dict": collections.OrderedDict(a=1, b=2),
    "default dict": collections.defaultdict(list, a=1),
    "default dict of lambdas": collections.defaultdict(lambda: 1, a=1),
    "counter": collections.Counter(a=1, b=2),
    "deque": collections.deque([1, 2]),
    "bounded deque": collections.deque([1, 2], 5),
    "set": {"a", "b", "c", "d"},
    "frozenset": frozenset("abcd"),
    "words": Words("abcd"),
    "sets": {frozenset("ab"), frozenset("cd")},
    "proxy": types.MappingProxyType({"a": 2}),
    "date": dt.date(2026, 1, 2),
    "datetime": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    "fraction": Fraction(1, 2),
    "pattern": re.compile("a+"),
    "other pattern": re.compile("a+", re.IGNORECASE),
    "path": Path("/a"),
    "enum": Color.RED,
    "other enum": Color.BLUE,
    "module": operator,
    "class": Model,
    "builtin class": int,
    "builtin": len,
    "method of a value": "a".upper,
    "method of a class": str.upper,
    "function": double,
    "cached": cached,
    "lambda": scaled(1.0),
    "other lambda": scaled(2.0),
    "recursive": countdown(3),
    "other recursive": countdown(4),
    "partial": functools.partial(double, 1.0),
    "partial with keyword": functools.partial(double, x=1.0),
    "getter": operator.itemgetter(1),
    "bound": Model(a=1).__init__,  # type: ignore[misc]
    "object": Model(a=1),
    "other value": Model(a=2),
    "other name": Model(b=1),
    "other class": Other(a=1),
    "empty object": Model(),
    "slots": Slotted(1.0),
    "slots and attributes": Slotted(1.0, a=1),
    "scalar": np.float64(1.0),
    "narrow scalar": np.float32(1.0),
    "array": np.array([1.0, 2.0]),
    "narrow array": np.array([1.0, 2.0], "f4"),
    "column": np.array([[1.0], [2.0]]),
    "row": np.array([[1.0, 2.0]]),
    "empty array": np.zeros((0, 3)),
    "other empty array": np.zeros((3, 0)),
    "matrix": np.asmatrix([[1.0, 2.0]]),
    "masked": np.ma.masked_array([1.0, 2.0], mask=[False, True]),
    "other mask": np.ma.masked_array([1.0, 2.0], mask=[True, False]),
    "objects": np.array(["a", None, 1.5], dtype=object),
    "strings": np.array(["a", "b"]),
    "moments": np.array(["2026-01-02"], "M8[D]"),
    "long doubles": np.array([1, 2], np.longdouble),
    "record": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    "other names": np.array([(1, 2.0)], [("a", "i4"), ("c", "f8")]),
    "dtype": np.dtype("f8"),
    "ufunc": np.log1p,
    "special ufunc": special.expit,
    "generator": np.random.default_rng(1),
    "other generator": np.random.default_rng(2),
    "random state": np.random.RandomState(1),
    "other random state": np.random.RandomState(2),
    "sparse": sparse.csr_matrix(np.eye(2)),
    "other sparse": sparse.csr_matrix(2 * np.eye(2)),
    "other format": sparse.csc_matrix(np.eye(2)),
}
NOT_PICKLED = ("lambda", "recursive", "module", "not implemented", "proxy", "cached")


def test_all_values_differ() -> None:
    found = collections.defaultdict(list)
    for name, value in VALUES.items():
        found[fitted_state(value)].append(name)
    assert [names for names in found.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", VALUES)
def test_a_copy_has_the_same_fingerprint(name: str) -> None:
    value = VALUES[name]
    expected = fitted_state(value)
    assert re.fullmatch("[0-9a-f]{32}", expected)
    assert fitted_state(Model(a=value)) != expected
    if not any(word in name for word in NOT_PICKLED):
        assert fitted_state(pickle.loads(pickle.dumps(value))) == expected
        assert fitted_state(copy.deepcopy(value)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON)
def test_values_share_a_fingerprint_only_if_they_are_equal(one: Any, other: Any) -> None:
    assert (fitted_state(one) == fitted_state(other)) == (_exactly(one) == _exactly(other))
    assert fitted_state(copy.deepcopy(one)) == fitted_state(one)


def _exactly(value: Any) -> str:
    return repr(value)  # 1, 1.0 and True; -0.0; the order of a dict


def test_arrays_count_by_their_values_not_their_memory(tmp_path: Path) -> None:
    array = np.arange(200_000.0).reshape(400, 500)
    wide = np.zeros((400, 1000))
    wide[:, ::2] = array
    np.save(tmp_path / "array.npy", array)
    same = [
        np.asfortranarray(array),
        wide[:, ::2],
        array[::-1][::-1],
        np.load(tmp_path / "array.npy", mmap_mode="r"),
        array.astype(">f8"),  # which pickle changes to "<f8"
    ]
    assert {fitted_state(each) for each in same} == {fitted_state(array)}
    assert fitted_state(array.T) != fitted_state(array.reshape(500, 400))


def test_the_padding_of_structured_arrays_does_not_count() -> None:
    dtype = np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8]})
    clean, dirty = np.zeros(3, dtype), np.full(48, 0xFF, np.uint8).view(dtype)
    dirty["a"], dirty["b"] = 0, 0.0
    assert clean.tobytes() != dirty.tobytes()
    assert fitted_state(clean) == fitted_state(dirty)
    dirty["b"][2] = 1.0
    assert fitted_state(clean) != fitted_state(dirty)


def test_the_c_type_of_an_array_does_not_count() -> None:
    assert fitted_state(np.zeros(2, "q")) == fitted_state(np.zeros(2, "l"))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 1")
def test_strings_of_any_length_count_by_their_text() -> None:
    texts = ["a" * 100, "b"]
    one, same = (np.array(texts, np.dtypes.StringDType()) for _ in range(2))
    other = np.array(["a" * 100, "c"], np.dtypes.StringDType())
    assert fitted_state(one) == fitted_state(same) != fitted_state(other)


def test_arrays_are_not_copied() -> None:
    array = np.zeros((2, 4_000_000), order="F")
    records = np.zeros(2_000_000, [("a", "i1"), ("b", "f8")])
    tracemalloc.start()
    fitted_state(Model(array=array, records=records))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000  # of 82


def test_reading_a_sparse_matrix_does_not_change_its_fingerprint() -> None:
    matrix = sparse.random(20, 20, 0.2, format="csr", random_state=0)
    before = fitted_state(matrix)
    assert matrix.has_sorted_indices in (True, False)
    assert matrix.has_canonical_format in (True, False)
    assert fitted_state(matrix) == before


def test_shared_values_and_copies_of_them_are_equal() -> None:
    array, words = np.arange(3.0), ["a", "b"]
    shared = Model(a=array, b=array, c=words, d=words)
    copied = Model(a=array, b=array.copy(), c=words, d=list(words))
    assert fitted_state(shared) == fitted_state(copied)


def test_attributes_count_in_no_order() -> None:
    assert fitted_state(Model(a=1, b=2)) == fitted_state(Model(b=2, a=1))


def test_cycles_end() -> None:
    def ring(size: int, weight: float = 1.0) -> Model:
        nodes = [Model(weight=1.0) for _ in range(size)]
        for node, following in itertools.pairwise([*nodes, nodes[0]]):
            node.following = following  # type: ignore[attr-defined]
        nodes[-1].weight = weight  # type: ignore[attr-defined]
        return nodes[0]

    assert fitted_state(ring(3)) == fitted_state(ring(3))
    assert fitted_state(ring(3)) == fitted_state(pickle.loads(pickle.dumps(ring(3))))
    assert len({fitted_state(ring(size)) for size in (1, 2, 3, 4)}) == 4
    assert fitted_state(ring(3)) != fitted_state(ring(3, weight=2.0))


def test_a_reference_counts_by_where_it_leads() -> None:
    def tree(*, to_root: bool) -> list[Any]:
        root: list[Any] = ["root"]
        child: list[Any] = ["child"]
        leaf = [root if to_root else child]
        child.append(leaf)
        root += [child, leaf]
        return root

    assert fitted_state(tree(to_root=True)) == fitted_state(tree(to_root=True))
    assert fitted_state(tree(to_root=True)) != fitted_state(tree(to_root=False))


def test_shared_values_take_no_longer() -> None:
    value: list[Any] = [1.0]
    for _ in range(200):  # 2 ** 200 paths
        value = [value, value]
    assert fitted_state(value) == fitted_state(pickle.loads(pickle.dumps(value)))
    other = Model(value=value)
    other.back = [other, value]  # type: ignore[attr-defined]
    assert fitted_state(other) != fitted_state(Model(value=value, back=[value, value]))


def _nested(levels: int) -> Any:
    value: Any = Model(weight=1.0)
    for _ in range(levels):
        value = Model(inside=value)
    return value


def test_deep_structures_have_a_fingerprint() -> None:
    assert fitted_state(_nested(4_000)) == fitted_state(_nested(4_000))
    assert fitted_state(_nested(4_000)) != fitted_state(_nested(3_999))


def test_a_structure_may_be_too_deep() -> None:
    with pytest.raises(ConfigurationError, match=r"nested more than 10,000 levels deep") as caught:
        fitted_state(_nested(20_000))
    assert len(str(caught.value)) < 500


def test_sets_may_be_nested_too_deeply() -> None:
    value = frozenset([1])
    for _ in range(60):
        value = frozenset([value, 1])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match=r"nested in more than 50 sets"):
        fitted_state(value)


def test_functions_of_the_same_name_count_by_their_code() -> None:
    def made(body: str, before: str = "") -> Any:
        scope: dict[str, Any] = {"__name__": "users"}
        exec(f"{before}def step(x):\n    return {body}", scope)
        return scope["step"]

    assert fitted_state(made("x + 1")) == fitted_state(made("x + 1", before="\n\n"))
    assert fitted_state(made("x + 1")) != fitted_state(made("x + 2"))
    assert fitted_state(made("x + 1")) != fitted_state(made("x - 1"))
    assert fitted_state(made("x in {'a', 'b'}")) == fitted_state(made("x in {'b', 'a'}"))


@pytest.mark.parametrize(
    "step",
    [
        "lambda x: inner(x)",
        "lambda x: [outer(each) for each in x]",
        "lambda x: (lambda: inner(x))()",
    ],
)
def test_functions_count_by_the_code_of_those_they_call(step: str) -> None:
    def made(body: str) -> Any:
        scope: dict[str, Any] = {"__name__": __name__}
        exec(f"def inner(x):\n    return {body} or outer\n", scope)
        exec("def outer(x):\n    return inner(x)\n", scope)  # each refers to the other
        exec(f"step = {step}", scope)
        return scope["step"]

    assert fitted_state(made("x + 1")) == fitted_state(made("x + 1"))
    assert fitted_state(made("x + 1")) != fitted_state(made("x + 2"))


@pytest.mark.parametrize("decorator", ["", "@functools.cache\n", "@logged\n"])
@pytest.mark.parametrize("change", [("factor=2", "factor=3"), ("return x", "return -x")])
def test_functions_that_are_called_count_with_defaults_and_decorated(
    decorator: str, change: tuple[str, str]
) -> None:
    source = (
        "import functools\n"
        "def logged(function):\n"
        "    @functools.wraps(function)\n"
        "    def inner(*args):\n"
        "        return function(*args)\n"
        "    return inner\n"
        f"{decorator}def helper(x, factor=2):\n    return x * factor\n"
        "def step(x):\n    return helper(x)\n"
    )

    def made(source: str) -> Any:
        scope: dict[str, Any] = {"__name__": __name__}
        exec(source, scope)
        return scope["step"]

    assert fitted_state(made(source)) == fitted_state(made(source))
    assert fitted_state(made(source)) != fitted_state(made(source.replace(*change)))


def test_functions_count_by_their_attributes() -> None:
    def step(x: int) -> int:
        return x * step.factor  # type: ignore[attr-defined, no-any-return]

    found = []
    for factor in (1, 2, 1):
        step.factor = factor  # type: ignore[attr-defined]
        found.append(fitted_state(step))
    assert found[0] == found[2] != found[1]


def test_functions_count_by_what_they_carry() -> None:
    assert fitted_state(scaled(1.0)) == fitted_state(scaled(1.0))
    table = np.arange(3.0)
    one = fitted_state(lambda x, table=table: table[x])
    assert fitted_state(Model(step=scaled(2.0))) != fitted_state(Model(step=scaled(1.0)))
    table[1] = 5.0
    assert fitted_state(lambda x, table=table: table[x]) != one


@contextlib.contextmanager
def unstable(name: str) -> Iterator[Any]:
    """Make an object of a type that has no stable fingerprint."""
    with open(__file__) as file, socket.socket() as connection:
        objects: dict[str, Any] = {
            "_thread.lock": threading.Lock(),
            "_io.TextIOWrapper": file,
            "socket.socket": connection,
            "builtins.generator": (each for each in "ab"),
            "builtins.memoryview": memoryview(b"ab"),
            "numpy.ufunc": np.frompyfunc(abs, 1, 1),
        }
        yield objects[name]


UNSTABLE = [
    *("_thread.lock", "_io.TextIOWrapper", "socket.socket"),
    *("builtins.generator", "builtins.memoryview", "numpy.ufunc"),
]


@pytest.mark.parametrize("name", UNSTABLE[:5])
def test_the_error_names_the_path_and_the_type(name: str) -> None:
    with unstable(name) as resource, pytest.raises(ConfigurationError) as caught:
        fitted_state(Model(steps=[("a", Model()), ("b", Model(session={"now": resource}))]))
    assert str(caught.value) == (
        f"revision: steps[1][1].session['now']: the type {name} has no stable fingerprint; "
        "pass revision=... (a string, or the model's files)"
    )
    assert caught.value.option == "revision"


@pytest.mark.parametrize("name", UNSTABLE)
def test_some_objects_have_no_fingerprint(name: str) -> None:
    expected = rf"revision: the type {re.escape(name)} has no stable fingerprint"
    with unstable(name) as resource, pytest.raises(ConfigurationError, match=expected):
        fitted_state(resource)


def test_a_set_shows_in_the_path() -> None:
    with pytest.raises(ConfigurationError, match=r"revision: words\{\.\.\.\}\[1\]: the type _thr"):
        fitted_state(Model(words={("a", threading.Lock())}))


@pytest.mark.parametrize("package", ["torch", "onnxruntime", "tensorflow"])
def test_a_model_whose_weights_are_out_of_reach_needs_a_revision(package: str) -> None:
    base = type("Module", (), {"__module__": f"{package}.nn"})
    net = type("Net", (base,), {"__module__": "users"})()
    with pytest.raises(ConfigurationError, match=r"net: the type users\.Net .* \(.+\); pass"):
        fitted_state(Model(net=net))


def test_a_model_of_mlflow_is_known_by_its_identifier() -> None:
    cls = type("PyFuncModel", (), {"__module__": "mlflow.pyfunc"})

    def loaded(uuid: str | None) -> Any:
        model = cls()
        model.metadata, model.client = types.SimpleNamespace(model_uuid=uuid), threading.Lock()
        return model

    assert fitted_state(loaded("a")) == fitted_state(loaded("a"))
    assert fitted_state(loaded("a")) != fitted_state(loaded("b"))
    with pytest.raises(ConfigurationError, match="it has no model_uuid"):
        fitted_state(loaded(None))


def test_a_lack_of_memory_is_not_taken_for_an_unstable_object() -> None:
    class Huge:
        def __reduce__(self) -> str:
            raise MemoryError

    with pytest.raises(MemoryError):
        fitted_state(Huge())
