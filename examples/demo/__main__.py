"""The command line: `python -m examples.demo`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import redis
from rich.console import Console
from sklearn.exceptions import InconsistentVersionWarning

from examples.demo import report
from examples.demo.chart import draw
from examples.demo.experiments import Sizes, Times, time_caches
from examples.demo.rounding import Rounding, count_rounding
from examples.demo.server import demo_server
from examples.insurance_charges import train
from examples.insurance_charges.model import MODEL_FILE, InsuranceChargesModel
from model_cache import ModelCacheError

_QUICK = Sizes(samples=50, requests=500, checks=20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments, print the tables, draw the chart; return the exit status."""
    options = _parser().parse_args(arguments)
    if os.environ.pop("MODEL_CACHE_DISABLED", None):
        print("MODEL_CACHE_DISABLED is set; the demo ignores it.")
    console = report.make_console()
    started = time.perf_counter()
    path = options.output / "demo.png"
    try:
        for file in filter(None, (path, options.chart)):
            file.parent.mkdir(parents=True, exist_ok=True)
        times, rounding = _run(console, _QUICK if options.quick else Sizes())
        draw(times, rounding, path)
        if options.chart is not None:
            shutil.copyfile(path, options.chart)
    except (redis.RedisError, ModelCacheError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report.show(console, times, rounding)
    console.print(f"\n{time.perf_counter() - started:.0f} s in all. The chart: {path}")
    return 0


def _run(console: Console, sizes: Sizes) -> tuple[Times, Rounding]:
    model = _trained_model(console)
    with demo_server() as server:
        console.print(report.environment(server.name), soft_wrap=True)
        with report.make_progress(console) as progress:
            track = report.Tracker(console, progress)
            times = time_caches(server, model, sizes, track)
            rounding = count_rounding(server, model, sizes, track)
    return times, rounding


def _trained_model(console: Console) -> InsuranceChargesModel:
    if not MODEL_FILE.exists():
        console.print("The example model is not trained yet; training it:")
        if train.main([]) != 0:
            raise FileNotFoundError(f"{MODEL_FILE} could not be written")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        model = InsuranceChargesModel()
    if caught:
        # Its predictions may differ slightly, which does not matter for caching.
        console.print(
            "The example model was trained with another scikit-learn; to retrain it: "
            "python -m examples.insurance_charges.train",
            soft_wrap=True,
        )
        warnings.simplefilter("ignore", InconsistentVersionWarning)
    return model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Repeat the article's experiments on an embedded Redis server, or on the one "
        "at REDIS_URL, where the demo touches only its own keys.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of everything, in a few seconds"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        metavar="FOLDER",
        help="where to write the chart (default: %(default)s)",
    )
    parser.add_argument(
        "--chart", type=Path, metavar="FILE", help="where to write a copy of the chart, a PNG"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
