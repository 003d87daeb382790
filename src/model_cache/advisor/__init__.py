"""Request logs in, advice out: would a cache pay for this model and this traffic?

`advise` reads a log of requests and returns an `Advice`: the hit ratio that the traffic allows,
what reduced precision and ignored fields cost in changed answers, the memory and the TTL that it
takes, and the time and money that it saves. `model-cache advise` is the same on the command line.

A log is read once, column by column. Reuse is that of keys: the columns hold hashes of the
canonical bytes that keys are made of. The extra `advisor` is needed, and imported at first use.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.advisor.advice import Advice
from model_cache.advisor.progress import Progress, Tell, silent
from model_cache.advisor.settings import LogFormat, Settings
from model_cache.errors import ConfigurationError

__all__ = ["Advice", "Progress", "Tell", "advise"]

_EXTRA = ("numpy", "pyarrow")


def advise(
    model: MLModel,
    requests: str | Path | Iterable[BaseModel | Mapping[str, Any]],
    *,
    budget: float = 60.0,
    tolerance: float | None = None,
    price_per_hour: float | None = None,
    time_column: str | None = None,
    log_format: LogFormat | None = None,
    seed: int = 0,
    tell: Tell = silent,
) -> Advice:
    """Return whether a cache would pay for a model, and with which options.

    Args:
        model: the model. Caches around it are removed.
        requests: a file (JSON Lines, CSV, Parquet, or what KServe or SageMaker write), or an
            iterable of inputs or dicts.
        budget: seconds that may be spent on trying out choices with the model.
        tolerance: the change that 99% of the answers must stay within, in the unit of the output;
            for a model that returns labels, the share of answers that may flip.
        price_per_hour: what an hour of a CPU costs.
        time_column: the column with the time of each request; None to look for one.
        log_format: the format of the file; None for the one that its name and content suggest.
        seed: chooses the requests that are sampled.
        tell: receives the progress.

    Returns:
        The advice. After Ctrl-C, the advice so far, whose `complete` is False.

    Raises:
        ConfigurationError: the requests do not fit the model's schema, or an option is invalid.
    """
    chance = random.Random(seed)
    settings = Settings(budget, tolerance, price_per_hour, time_column, log_format, chance)
    try:
        from model_cache.advisor.run import run
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    return run(model, requests, settings, tell)


def missing_extra(error: ModuleNotFoundError) -> Exception:
    """Return the error that says how to install what is missing."""
    name = (error.name or "").partition(".")[0]
    if name not in _EXTRA:
        return error
    return ConfigurationError(
        "advisor", f'the advisor needs {name}: pip install "ml-model-cache[advisor]"'
    )
