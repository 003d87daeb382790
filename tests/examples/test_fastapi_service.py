"""The FastAPI example, served by a real server: a miss, a hit, and a closed cache."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import pytest

from examples.frameworks.charges import MODEL_FILE, table, train
from tests.checkout import IMPORTS
from tests.servers import Server
from tests.services import Service

PEOPLE: list[dict[str, object]] = [
    {"age": 42, "bmi": 24.5, "children": 2, "smoker": False, "region": "northwest"},
    {"age": 19, "bmi": 31, "smoker": True},
]


def test_the_second_request_is_a_hit(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = train()
    joblib.dump(model, MODEL_FILE)
    whole = [{"children": 0, "region": "northwest", **person} for person in PEOPLE]
    expected = model.predict(table(whole)).tolist()
    service = Service(
        ["uvicorn", "examples.frameworks.fastapi_service:app", "--host", "127.0.0.1"],
        {"PYTHONPATH": IMPORTS, "REDIS_URL": server.url},
        tmp_path / "log",
        ready="/cache",
    )
    try:
        service.wait_until_ready()
        for outcome in ("MISS", "HIT"):
            status, headers, body = service.exchange("POST", "/predict", json.dumps(PEOPLE))
            assert (status, json.loads(body)) == (200, expected), service.log
            assert headers["X-Cache"] == outcome
        assert service.call("GET", "/cache") == (200, {"charges/1.0.0": 2})
    finally:
        service.stop()
    assert "Traceback" not in service.log
