"""docs/observing.md is correct: its tables, its YAML and its code."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from model_cache import Outcome, RedisCachingDecorator
from model_cache.integrations.prometheus import PrometheusHook
from model_cache.observing import events
from model_cache.observing.outcome import Fate, Kind
from model_cache.options.hooks import HOOKS
from tests.checkout import REPOSITORY
from tests.integrations.rest_service import predicted, rest_service
from tests.integrations.scraping import counts, get
from tests.integrations.traces import Traces, attributes
from tests.models import FunctionModel, person
from tests.servers import Server
from tests.services import Service

DOC = (REPOSITORY / "docs" / "observing.md").read_text(encoding="utf-8")
FULL = Outcome(
    "miss", "m", "1", 1.0, 1.0, 0.5, 1.0, 1, "stored", "OOM", True, True, True, 1.0, 1.0, 2
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOC, re.M | re.S)


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, but for those of its head."""
    section = re.split(rf"^#+ {re.escape(heading)}$", DOC, flags=re.M)[1]
    section = re.split(r"^#", section, flags=re.M)[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_there_is_a_row_for_each_hook() -> None:
    assert {words(row[0])[0] for row in rows("Built-in hooks")} == set(HOOKS)


def test_there_is_a_row_for_each_metric_with_its_labels() -> None:
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    hook(FULL)
    exposed = {}
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = [set(one.labels) - {"le"} for one in family.samples if "created" not in one.name]
        exposed[name] = labels[0] - {"model", "version"}
    table = {words(name)[0]: (labels, text) for name, labels, text in rows("Metrics")}
    assert {name: set(words(labels)) for name, (labels, _) in table.items()} == exposed
    for kind in get_args(Kind):
        assert kind in words(table["model_cache_predictions_total"][1]), kind
    unstored = set(get_args(Fate)) - {"stored", "queued", "write_failed"}
    assert set(words(table["model_cache_unstored_total"][1])) >= unstored


def test_there_is_a_row_for_each_attribute_of_a_span() -> None:
    traces = Traces()
    try:
        raise RuntimeError
    except RuntimeError:
        traces.hook(FULL._replace(kind="error"))
    [span] = traces.spans()
    assert {word for row in rows("OpenTelemetry") for word in words(row[0])} == set(
        attributes(span)
    )
    assert f"A span `{span.name}`" in DOC


def test_each_field_of_a_line_is_named() -> None:
    section = DOC.partition("## Logging")[2].partition("\n## ")[0]
    named = set(words(section))
    assert named >= {*Outcome._fields, "outcome"} - {"kind"}


def test_there_is_a_row_for_each_event_with_its_fields() -> None:
    table = {words(name)[0]: words(names) for name, _, names in rows("Custom hooks")}
    kinds = get_args(events.Event)
    assert set(table) == {kind.__name__ for kind in kinds}
    for kind in kinds:
        if kind is not Outcome:
            assert table[kind.__name__] == [field.name for field in fields(kind)]


def test_every_alert_is_mentioned_by_what_it_means() -> None:
    rules = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "alerts.yaml").read_text())
    section = DOC.partition("### Dashboard and alerts")[2].partition("\n## ")[0]
    assert (REPOSITORY / "deploy" / "grafana" / "model-cache.json").is_file()
    [sentence] = re.findall(r"defines\s+five\s+alerts:\s+([^.]*)\.", section)
    assert len(sentence.split(",")) == len(rules["groups"][0]["rules"])


def test_the_promql_is_promql() -> None:
    for query in blocks("promql"):
        promql_parser.parse(query)


def test_the_python_runs_as_it_stands(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("model_cache.predictions"), "filters", [])
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    model = RedisCachingDecorator(url=server.url, timeout=5.0).set_model(FunctionModel())
    scope: dict[str, Any] = {"model": model, "data": person()}
    for block in blocks("python"):
        exec(compile(block, "observing.md", "exec", dont_inherit=True), scope)
    assert b"model_cache_predictions_total" in scope["metrics"]().body
    scope["slow_hits"](Outcome("hit", "m", "1", 0.1, 0.09))
    assert capsys.readouterr().out == "miss\nm: a hit took 0.100 s, 0.090 at Redis\n"


@pytest.fixture
def service(server: Server, tmp_path: Path) -> Iterator[Service]:
    """The service of the YAML, with another model, so that none needs to be trained."""
    [block] = blocks("yaml")
    configuration = yaml.safe_load(block)
    [model] = configuration["models"]
    model["class_path"] = "tests.models.FunctionModel"
    [decorator] = model["decorators"]
    decorator["configuration"].update(url=server.url, timeout=5.0)
    path = tmp_path / "rest_config.yaml"
    path.write_text(yaml.safe_dump(configuration))
    with rest_service(path) as service:
        yield service


def test_the_service_of_the_yaml_shows_the_metrics(service: Service) -> None:
    for _ in range(3):
        status, answer = predicted(service, person().model_dump_json())
        assert status == 200
        assert "charges" in answer
    found = counts(get(service, "/metrics"))
    assert found == {"miss": 1, "hit": 2}
