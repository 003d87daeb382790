"""Train the insurance charges model: `python -m examples.insurance_charges.train`.

It trains on the published table, if given, else on generated rows, and writes one file. The same
rows, seed and versions of Python, numpy, scikit-learn and joblib give the same bytes.
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
"""The number of rows in the published table."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained pipeline with its scores on the held-out fifth of the rows.

    Attributes:
        pipeline: predicts from a list of `table.features`.
        r2: the coefficient of determination, at best 1.
        mean_absolute_error: in US dollars.
    """

    pipeline: Pipeline
    r2: float
    mean_absolute_error: float


def train(rows: Sequence[InsuranceRow], seed: int) -> TrainedModel:
    """Train on four fifths of the rows and score on the rest.

    Args:
        rows: at least `MINIMUM_ROWS` rows.
        seed: from 0 to 2**32 - 1; used for the split and the trees.
    """
    inputs = [features(row) for row in rows]
    charges = [row.charges for row in rows]
    seen, unseen, seen_charges, unseen_charges = train_test_split(
        inputs, charges, test_size=0.2, random_state=seed
    )
    # One job: threads would sum the trees in any order, so the last bits would vary.
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
    """Write the pipeline atomically: a process that loads it sees the old or the new file."""
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
        help="how many rows to generate (default: %(default)s, as in the published table)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=MODEL_FILE,
        metavar="FILE",
        help="where to write the trained model (default: next to the model's code)",
    )
    parser.add_argument(
        "--seed",
        type=_whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="for generated rows, the held-out rows, and the trees (default: %(default)s)",
    )
    return parser


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main())
