"""Cached functions of many rows: one entry for each row of a call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from model_cache.entries.values import Classes
from model_cache.errors import ConfigurationError, NotCacheableError, did_you_mean
from model_cache.keys.canonical import INPUTS
from model_cache.keys.head import head_of
from model_cache.keys.tables import table_of
from model_cache.option_values import text
from model_cache.options.config import Config
from model_cache.prediction.tables import TableCall
from model_cache.wrappers.functions import (
    Memoized,
    attached,
    full_name,
    identity,
    refuse_uncacheable,
    revision,
)
from model_cache.wrappers.part import Part, Sharing
from model_cache.wrappers.rows_binding import RowsBinding
from model_cache.wrappers.signatures import annotations_of, refuse_self

P = ParamSpec("P")
R = TypeVar("R")
