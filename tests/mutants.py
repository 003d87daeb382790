"""Mutation tests: change the code in one place, and see whether the nearest tests fail.

A mutant that no test kills is equivalent to the original, changes a constant whose exact value
does not matter, or shows that a test is missing. cosmic-ray makes the mutants. Its own runner is
not used, since it changes the files of the checkout and runs all mutants of a module, which takes
hours: here, each module gets a sample with a fixed seed, and the mutants run in a copy.

    python -m tests.mutants --module entries/codec --sample 10
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from tests.checkout import REPOSITORY

NEAREST = {
    "keys/canonical": "tests/keys tests/golden tests/properties/test_keys.py"
    " tests/properties/test_hidden_state.py tests/properties/test_predictions.py",
    "keys/key": "tests/keys/test_entry_keys.py tests/test_decorator_keys.py tests/golden"
    " tests/properties/test_keys.py tests/binding tests/options",
    "keys/rounding": "tests/properties/test_rounding.py tests/properties/test_rounded_objects.py"
    " tests/test_decorator_keys.py tests/binding",
    "entries/codec": "tests/entries tests/golden tests/properties/test_entries.py"
    " tests/properties/test_predictions.py tests/test_decorator_storing.py",
    "entries/envelope": "tests/entries tests/golden tests/properties/test_entries.py",
    "prediction/single_flight": "tests/prediction/test_single_flight.py"
    " tests/prediction/test_fleet.py tests/prediction/test_failing_redis.py",
    "prediction/barrier": "tests/prediction/test_barriers.py tests/prediction/test_near_cache.py"
    " tests/prediction/test_background.py",
    "prediction/generation": "tests/prediction/test_generations.py"
    " tests/prediction/test_single_entries.py tests/prediction/test_near_cache_never_older.py",
    "prediction/generation_steps": "tests/prediction/test_generations.py"
    " tests/prediction/test_single_entries.py tests/prediction/test_near_cache_never_older.py",
    "prediction/look_up": "tests/prediction/test_near_cache.py"
    " tests/prediction/test_near_cache_never_older.py tests/prediction/test_generations.py"
    " tests/prediction/test_single_entries.py tests/prediction/test_drivers.py",
    "prediction/near": "tests/prediction/test_near_cache.py"
    " tests/prediction/test_near_cache_never_older.py tests/prediction/test_single_entries.py"
    " tests/observing/test_time_left.py",
    "prediction/single_entries": "tests/prediction/test_single_entries.py"
    " tests/observing/test_scope.py tests/prediction/test_drivers.py",
    "prediction/tables": "tests/wrappers/test_rows.py tests/wrappers/test_failures.py"
    " tests/wrappers/test_cache.py tests/prediction/test_verification.py"
    " tests/properties/test_schedules.py",
    "prediction/writing": "tests/test_decorator_storing.py tests/prediction/test_ttl.py"
    " tests/prediction/test_background.py tests/prediction/test_barriers.py"
    " tests/prediction/test_revalidation.py tests/prediction/test_failing_redis.py",
    "prediction/many": "tests/prediction/test_many.py"
    " tests/prediction/test_batches_like_single_predictions.py"
    " tests/prediction/test_callers_of_a_batch_that_ends_early.py"
    " tests/prediction/test_generations.py tests/stores/test_cluster_batches.py"
    " tests/prediction/test_verification.py tests/wrappers/test_failures.py",
    "stores/breaker": "tests/stores/test_breaker.py tests/stores/test_failing_servers.py",
    "stores/cluster": "tests/stores/test_contract.py tests/stores/test_cluster_batches.py"
    " tests/stores/test_cluster.py",
    "stores/slots": "tests/stores/test_contract.py tests/stores/test_cluster_batches.py"
    " tests/stores/test_cluster.py",
    "stores/pool": "tests/stores/test_connections.py tests/stores/test_interruptions.py"
    " tests/stores/test_cluster_batches.py"
    " tests/stores/test_failing_servers.py tests/stores/test_contract.py"
    " tests/stores/test_managed_redis.py",
    "stores/connection": "tests/stores/test_exchanges.py tests/stores/test_connections.py"
    " tests/stores/test_interruptions.py"
    " tests/stores/test_contract.py tests/stores/test_failing_servers.py"
    " tests/stores/test_tls.py tests/stores/test_logins.py",
    "stores/url": "tests/stores/test_urls.py tests/options tests/test_secrets.py"
    " tests/stores/test_sentinel.py",
}
"""The modules that carry the promises, each with its nearest tests."""

_NOT_USED = ("NoOp", "VariableReplacer", "VariableInserter")  # the last two need arguments
_SOURCE = Path("src", "model_cache")
_ABSENT = shutil.ignore_patterns(".*", "__pycache__", "site", "demo-output")


@dataclass(frozen=True)
class Mutant:
    """One change to one file."""

    file: Path
    line: int
    operator: str
    text: str

    def difference(self) -> str:
        """Return the lines that changed."""
        before = (REPOSITORY / self.file).read_text().splitlines()
        lines = list(difflib.unified_diff(before, self.text.splitlines(), n=0, lineterm=""))[3:]
        return "\n".join(f"    {line}" for line in lines)


def _files(module: str) -> list[Path]:
    path = REPOSITORY / _SOURCE / module
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return [file.relative_to(REPOSITORY) for file in files]


def _occurrences(text: str) -> Iterator[tuple[tuple[int, int], str, int]]:
    """Yield the place, the operator and the operator's own number of each possible mutation."""
    nodes = list(ast_nodes(get_ast(text)))
    for name in operator_names():
        if name.endswith(_NOT_USED):
            continue
        operator = get_operator(name)()
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, start in enumerate(starts):
            yield start, name, occurrence


def _meaning(text: str) -> str | None:
    """Return the code without its annotations; None if it is not valid, or Python warns of it."""
    try:
        tree = ast.parse(text)
        with warnings.catch_warnings():
            # As in the tests: `is "hit"` would fail each of them, whatever it promises.
            warnings.simplefilter("error")
            compile(tree, "<mutant>", "exec")
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def sample(module: str, size: int, seed: int) -> list[Mutant]:
    """Return one mutant each of some places of a module, the same for the same seed."""
    chance = random.Random(f"{seed} {module}")
    places: dict[tuple[Path, tuple[int, int]], list[tuple[str, int]]] = {}
    for file in _files(module):
        for start, operator, occurrence in _occurrences((REPOSITORY / file).read_text()):
            places.setdefault((file, start), []).append((operator, occurrence))
    order = list(places.items())
    chance.shuffle(order)
    mutants = (_mutant(file, line, *chance.choice(at)) for (file, (line, _)), at in order)
    return list(islice(filter(None, mutants), size))


def _mutant(file: Path, line: int, operator: str, occurrence: int) -> Mutant | None:
    """Return a mutant; None if it is not valid, or differs only in annotations."""
    text = (REPOSITORY / file).read_text()
    mutated: str | None = mutate_code(text, get_operator(operator)(), occurrence)
    if mutated is None or _meaning(mutated) in (None, _meaning(text)):
        return None
    return Mutant(file, line, operator.partition("/")[2], mutated)


def is_killed(tests: list[str], copy: Path, seconds: float | None) -> bool:
    """Return whether a test fails, or all of them together take too long."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        # A mutant of the same size and second as the last would run from the last one's bytecode.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-cov", "-p", "no:cacheprovider"]
    # In a session of its own, so that the servers and processes that the tests start end with it.
    with subprocess.Popen(
        [*command, "--timeout=60", *tests],
        cwd=copy,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(seconds) != 0
        except subprocess.TimeoutExpired:
            return True
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--module", action="append", choices=NEAREST, help="default: all of them")
    parser.add_argument("--sample", type=int, default=10, help="how many mutants of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300, help="the limit for one mutant")
    options = parser.parse_args()
    killed = total = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder, "copy")
        shutil.copytree(REPOSITORY, copy, ignore=_ABSENT)
        for module in options.module or NEAREST:
            tests = NEAREST[module].split()
            if is_killed(tests, copy, None):
                sys.exit(f"{module}: its nearest tests fail without a mutation")
            for mutant in sample(module, options.sample, options.seed):
                (copy / mutant.file).write_text(mutant.text)
                died = is_killed(tests, copy, options.seconds)
                shutil.copy2(REPOSITORY / mutant.file, copy / mutant.file)
                killed, total = killed + died, total + 1
                state = "killed" if died else "survived"
                print(f"{state} {mutant.file}:{mutant.line} {mutant.operator}", flush=True)
                if not died:
                    print(mutant.difference(), flush=True)
    print(f"{killed} of {total} mutants killed")


if __name__ == "__main__":
    main()
