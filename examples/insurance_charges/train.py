"""Trains the insurance charges model: `python -m examples.insurance_charges.train`.

Trains from the published table if given one, else from generated rows, and writes one file. Same
rows, same seed and same versions of Python, numpy, scikit-learn and joblib: same bytes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from examples.insurance_charges.generator import generate_rows
from examples.insurance_charges.model import MODEL_FILE
from examples.insurance_charges.table import (
    MINIMUM_ROWS,
    InsuranceRow,
    TableError,
    features,
    read_table,
)

PUBLISHED_ROWS = 1338
"""How many rows the published table has."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained pipeline and how well it predicts the fifth of the rows that it never saw.

    Attributes:
        pipeline: predicts from a list of `table.features`.
        r2: coefficient of determination, 1 at best.
        mean_absolute_error: in US dollars.
    """

    pipeline: Pipeline
    r2: float
    mean_absolute_error: float


def train(rows: Sequence[InsuranceRow], seed: int) -> TrainedModel:
    """Train from four fifths of the rows and measure on the last fifth.

    Args:
        rows: `MINIMUM_ROWS` or more.
        seed: from 0 to 2**32 - 1; picks the fifth and grows the trees.
    """
    inputs = [features(row) for row in rows]
    charges = [row.charges for row in rows]
    seen, unseen, seen_charges, unseen_charges = train_test_split(
        inputs, charges, test_size=0.2, random_state=seed
    )
    # One job: threads would add up the trees in any order, so the last bits would vary.
    forest = RandomForestRegressor(
        n_estimators=200, min_samples_leaf=10, n_jobs=1, random_state=seed
    )
    pipeline = Pipeline([("columns", DictVectorizer(sparse=False)), ("forest", forest)])
    pipeline.fit(seen, seen_charges)
    predicted = pipeline.predict(unseen)
    return TrainedModel(
        pipeline=pipeline,
        r2=float(r2_score(unseen_charges, predicted)),
        mean_absolute_error=float(mean_absolute_error(unseen_charges, predicted)),
    )


def save(pipeline: Pipeline, output: Path) -> None:
    """Write the pipeline; a process that loads the file meanwhile sees the old or the new one."""
    unfinished = output.with_name(f".{os.getpid()}.{output.name}")
    try:
        joblib.dump(pipeline, unfinished)
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    started = time.perf_counter()
    try:
        if options.data is not None:
            rows, source = read_table(options.data), f"from {options.data}"
        else:
            rows = generate_rows(options.rows, options.seed)
            source = f"generated with seed {options.seed}"
        trained = train(rows, options.seed)
        save(trained.pipeline, options.output)
    except (TableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - started
    print(f"rows                 {len(rows):,}, {source}")
    print(f"R2, held out         {trained.r2:.3f}")
    print(f"mean absolute error  {trained.mean_absolute_error:,.0f} dollars, held out")
    print(f"trained in           {seconds:.1f} s")
    print(f"written to           {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.insurance_charges.train",
        description="Train the insurance charges model.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="a CSV file with the columns age,sex,bmi,children,smoker,region,charges; "
        "without it, rows are generated",
    )
    source.add_argument(
        "--rows",
        type=_whole_number(MINIMUM_ROWS, 1_000_000),
        default=PUBLISHED_ROWS,
        metavar="N",
        help="how many rows to generate (default: %(default)s, as many as were published)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=MODEL_FILE,
        metavar="FILE",
        help="where to write the trained model (default: beside the model's code)",
    )
    parser.add_argument(
        "--seed",
        type=_whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="for generated rows, the rows held out, and the trees (default: %(default)s)",
    )
    return parser


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {low} to {high}")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main())
