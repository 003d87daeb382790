"""A WSGI service for gunicorn: predicts, returns the outcome, and serves the metrics.

It is loaded, and has predicted, before gunicorn forks its workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from model_cache import RedisCachingDecorator, last_outcome
from model_cache.integrations.prometheus import exposition
from tests.models import FunctionModel, person

_model = RedisCachingDecorator(
    url=os.environ["METRICS_REDIS_URL"], timeout=5.0, hooks=["prometheus"]
).set_model(FunctionModel())
_model.predict(person())
_model.predict(person())


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/")
    if name == "metrics":
        text, content_type = exposition()
        start_response("200 OK", [("Content-Type", content_type)])
        return [text]
    _model.predict(person(age=int(name)))
    outcome = last_outcome()
    assert outcome is not None
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), outcome.kind, outcome.entry_bytes]).encode()]
