"""The rules of the house: short functions and files, little nesting, and types that are checked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import IMPORTS, REPOSITORY

SOURCE = REPOSITORY / "src" / "model_cache"
LONGEST_FUNCTION = 40
LONGEST_FILE = 400
DEEPEST = 4

# Each with the reason why it may be longer. Remove a name here when its function gets short again.
LONG_FUNCTIONS = {
    "decorator.RedisCachingDecorator.__init__": "its signature: one line for each option",
    "options.config.Config.parse": "a table: one line for each option",
    "prediction.near_predictor.NearPredictor.answer": "a hit takes a few µs; each call counts",
    "stores.opening.compose_both": "its signature and docstring: two lines for each option",
}
LONG_FILES = {"decorator": "the docstring of all options, a quarter of the file"}

LOOPS_IN_BLOCKS = {
    "cli": "the process ends in any case",
    "steps": "each call counts, and what it cleans up is a reference cycle",
}

FILES = sorted(SOURCE.rglob("*.py"))
_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def functions(node: ast.AST, path: str) -> Iterator[tuple[str, ast.AST, int]]:
    """Yield the name, the node and the number of lines of each function in a node."""
    for child in ast.iter_child_nodes(node):
        name = f"{path}.{child.name}" if hasattr(child, "name") and child.name else path
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, child, (child.end_lineno or 0) - child.lineno + 1
        yield from functions(child, name)


def depth(node: ast.AST) -> int:
    """Return how many blocks of a function are nested in each other; elif adds nothing."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _SCOPES):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and [child] == node.orelse
        deepest = max(deepest, depth(child) + (isinstance(child, _BLOCKS) and not is_elif))
    return deepest


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts)


ALL_FUNCTIONS = [
    found for file in FILES for found in functions(ast.parse(file.read_text()), module_of(file))
]


def test_functions_are_short() -> None:
    long = {name for name, _, lines in ALL_FUNCTIONS if lines > LONGEST_FUNCTION}
    assert long == set(LONG_FUNCTIONS)


def test_files_are_short() -> None:
    lines = {module_of(file): len(file.read_text().splitlines()) for file in FILES}
    assert {name for name, count in lines.items() if count > LONGEST_FILE} == set(LONG_FILES)


def test_little_is_nested() -> None:
    assert [name for name, node, _ in ALL_FUNCTIONS if depth(node) > DEEPEST] == []


def loops(node: ast.AST) -> Iterator[int]:
    """Yield the lines of the loops in a node, besides those in functions of its own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_SCOPES, ast.GeneratorExp)):
            continue
        if isinstance(child, _LOOPS):
            yield child.lineno
        yield from loops(child)


def holds(block: ast.AST) -> list[ast.stmt]:
    """Return the statements of a block whose end releases a lock or cleans up."""
    if isinstance(block, ast.With):
        locks = [ast.unparse(item.context_expr).endswith("lock") for item in block.items]
        return block.body if any(locks) else []
    if isinstance(block, ast.Try):
        caught = [handler.type and ast.unparse(handler.type) for handler in block.handlers]
        return block.body if block.finalbody or {None, "BaseException"} & {*caught} else []
    return []


def test_no_loop_is_in_a_block_that_must_come_to_its_end() -> None:
    # CPython 3.13 calls signal handlers where an iteration ends, and looks for what to do with
    # their exception in a table in which this place is missing: a lock would never be released,
    # and `finally` or `except BaseException` be left out. In a function of its own, which the
    # block calls, a loop does no harm.
    assert {
        f"{module_of(file)}:{line}"
        for file in FILES
        if module_of(file).partition(".")[0] not in LOOPS_IN_BLOCKS
        for block in ast.walk(ast.parse(file.read_text()))
        for statement in holds(block)
        for line in loops(ast.Module([statement], []))
    } == set()


def test_the_names_that_pydantic_may_change_are_in_one_module() -> None:
    assert {module_of(file) for file in FILES if "__pydantic_" in file.read_text()} == {
        "pydantic_attributes"
    }


BEHIND_THE_DOOR = """
from model_cache.binding import Binding
from model_cache.decorator import RedisCachingDecorator
from model_cache.options.config import Config
from model_cache.prediction.call import Call
from model_cache.prediction.flow import Flow
from model_cache.prediction.sync import CachedPredictor
from model_cache.protocols import Store


def check(
    binding: Binding,
    call: Call,
    config: Config,
    decorator: RedisCachingDecorator,
    flow: Flow,
    predictor: CachedPredictor,
    store: Store,
) -> None:
"""
PLACES = [
    "binding",
    "binding.namespace",
    "call",
    "config.endpoint",
    "decorator._async_predictor",
    "decorator._predictor",
    "decorator.stats()",
    "flow",
    "predictor",
    "predictor._flow",
    "store.get",
]


def checked(snippet: Path, cache: Path) -> str:
    """Return mypy's messages about a file beside this package, with the project's settings."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml")]
    run = subprocess.run(
        [*command, "--cache-dir", str(cache), "--no-error-summary", str(snippet)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": IMPORTS, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return run.stdout


@pytest.mark.timeout(300)
def test_a_wrong_name_behind_the_door_fails_the_type_check(tmp_path: Path) -> None:
    snippet = tmp_path / "planted.py"
    snippet.write_text(BEHIND_THE_DOOR + "".join(f"    {at}.no_such_name\n" for at in PLACES))
    messages = checked(snippet, tmp_path / "cache")
    first = BEHIND_THE_DOOR.count("\n") + 1
    for line, place in enumerate(PLACES, first):
        assert f"planted.py:{line}: error:" in messages, (place, messages)
    assert messages.count('has no attribute "no_such_name"') == len(PLACES)
    assert messages.count("error:") == len(PLACES)


def test_nothing_is_computed_under_a_lock_that_a_forked_child_may_inherit() -> None:
    decorated = [
        f"{name}: {ast.unparse(decorator)}"
        for name, node, _ in ALL_FUNCTIONS
        for decorator in getattr(node, "decorator_list", ())
    ]
    assert [each for each in decorated if each.endswith("cached_property")] == []  # use `lazy`
