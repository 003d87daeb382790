"""A WSGI service for gunicorn: each request predicts an input and returns the outcome.

It is loaded, and has predicted, before gunicorn forks its workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from model_cache import RedisCachingDecorator
from tests.faults.load import INPUTS, Load, Tally

_load = Load(RedisCachingDecorator(url=os.environ["FAULTS_REDIS_URL"]), threads=0)
for _number in range(len(INPUTS)):
    _load.predict(Tally(), _number)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    tally, calls = Tally(), _load.models[0].call_count
    _load.predict(tally, int(environ["PATH_INFO"].strip("/")))
    answer = {
        "failed": tally.failed > 0,
        "wrong": tally.wrong > 0,
        "worst": tally.worst,
        "hit": _load.models[0].call_count == calls,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
