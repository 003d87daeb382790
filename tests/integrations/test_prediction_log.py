"""The logging hook: a line for each prediction, with its numbers as fields."""

from __future__ import annotations

import json
import logging

import pytest

from model_cache.integrations.prediction_log import PredictionLog
from tests.models import person
from tests.observing.heard import made, outcome
from tests.servers import Server

LOGGER = "model_cache.predictions"


def test_one_line_for_each_prediction(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    model = made(server, hooks=["logging"])
    with caplog.at_level(logging.INFO, logger=LOGGER):
        outcomes = []
        for _ in range(2):
            model.predict(person())
            outcomes.append(outcome())
    assert [record.name for record in caplog.records] == [LOGGER] * 2
    for record, one in zip(caplog.records, outcomes, strict=True):
        assert record.levelno == logging.INFO
        start = f"test_model 1.0.0: {one.kind}, "
        assert record.getMessage() == f"{start}{1e3 * one.seconds:.3f} ms"
        expected = one._asdict()
        expected["outcome"] = expected.pop("kind")
        assert vars(record).items() >= expected.items()


def test_no_record_is_created_when_the_level_is_off(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    model = made(server, hooks=[PredictionLog()])
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        model.predict(person())
    assert caplog.records == []


class Json(logging.Formatter):
    """As the formatters do that write what they do not know as fields."""

    def format(self, record: logging.LogRecord) -> str:
        known = vars(logging.makeLogRecord({}))
        return json.dumps({k: v for k, v in vars(record).items() if k not in known})


def test_the_fields_fit_into_json(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    model = made(server, hooks=["logging"])
    with caplog.at_level(logging.INFO, logger=LOGGER):
        model.predict(person())
    fields = json.loads(Json().format(caplog.records[0]))
    assert (fields["outcome"], fields["model"], fields["fate"]) == ("miss", "test_model", "stored")
    assert fields["seconds"] > fields["model_seconds"] > 0
