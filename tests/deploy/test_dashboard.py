"""The dashboard and the alerts use only existing metrics, and all of them.

The metrics are those of a real run, in which everything happens once.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from model_cache import RedisCachingDecorator, bypass
from model_cache.cli.exporter import Exporter
from model_cache.cli.target import Target
from model_cache.integrations.prometheus import PrometheusHook
from tests.checkout import REPOSITORY
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.observing.failing import NO_KEY, failing
from tests.servers import Server, free_port, running_server
from tests.stored import full

DEPLOY = REPOSITORY / "deploy"
DASHBOARD: dict[str, Any] = json.loads(
    (DEPLOY / "grafana" / "model-cache.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: dict[str, dict[str, Any]] = {
    variable["name"]: variable for variable in DASHBOARD["templating"]["list"]
}
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
TARGET_LABELS = {"job", "instance"}
"""What Prometheus adds to every series that it scrapes."""

Series = dict[str, list[dict[str, str]]]
"""Labels of the series, by the name of the sample."""


def panel_queries() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


QUERIES = [
    *panel_queries(),
    *((rule["alert"], rule["expr"]) for rule in RULES),
]


@pytest.fixture(scope="module")
def exposed() -> Series:
    """The series that are not at zero after all that is on the dashboard has happened."""
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)

    def made(
        function: Any = charge, name: str = "test_model", **options: Any
    ) -> RedisCachingDecorator:
        decorator = RedisCachingDecorator(**{"timeout": 5.0, "hooks": [hook], **options})
        return decorator.set_model(FunctionModel(function=function, qualified_name=name))

    with running_server() as server:
        everything_happens(server, made)
        exporter = Exporter(Target(server.url, proxied=False, timeout=5.0), print)
        exporter.read()
    lost = made(url=f"redis://127.0.0.1:{free_port()}")
    for _ in range(5):
        lost.predict(person())
    found: Series = {}
    for family in (*registry.collect(), *exporter.collect()):
        for sample in family.samples:
            if sample.value:
                found.setdefault(sample.name, []).append(sample.labels)
    return found


def slowly(data: Person) -> Charges:
    time.sleep(0.2)
    return charge(data)


def everything_happens(server: Server, made: Callable[..., RedisCachingDecorator]) -> None:
    model = made(url=server.url)
    near = made(url=server.url, near_cache=10)
    for _ in range(3):
        near.predict(person(age=99))
    slow = made(slowly, "slow_model", url=server.url)
    for cached in (model, slow):  # the hit of the one is a loss, that of the other a gain
        for _ in range(2):
            cached.predict(person())
    with server.client() as client:
        client.set(model.cache_key(person(age=1)), b"\xc1nonsense")
        model.predict(person(age=1))
        with full(client):
            model.predict(person(age=2))
    with bypass():
        model.predict(person())
    made(url=server.url, verify=1.0).predict(person())  # a hit, which is right
    changed = made(lambda _: Charges(charges=-1.0), url=server.url, verify=1.0)
    changed.predict(person())
    changed.close()
    model.predict(NO_KEY)
    made(url=server.url, enabled=False).predict(person())
    made(url=server.url, prefix="large", max_entry_bytes=3).predict(person())
    with pytest.raises(RuntimeError):
        made(failing, url=server.url, prefix="failing").predict(person())
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 1)  # evicts a key
        client.config_set("maxmemory", "100mb")
    for age in (3, 4):  # if the generation was evicted, too, the first entry is erased again
        model.predict(person(age=age))


def parsed(query: str) -> Any:
    for variable, value in (
        ("$__rate_interval", "5m"),
        ("$__range", "6h"),
        ("$price_per_hour", "0.05"),
    ):
        query = query.replace(variable, value)
    return promql_parser.parse(query)


def selectors(node: Any) -> Iterator[Any]:
    """Yield the selectors of series in a query."""
    if hasattr(node, "matchers"):
        yield node
    elif hasattr(node, "vector_selector"):
        yield node.vector_selector
    for name in ("expr", "lhs", "rhs", "args"):
        parts = getattr(node, name, None)
        for part in parts if isinstance(parts, list) else [parts]:
            if part is not None:
                yield from selectors(part)


def aggregations(node: Any) -> Iterator[Any]:
    """Yield the aggregations in a query."""
    if type(node).__name__ == "AggregateExpr":
        yield node
    for name in ("expr", "lhs", "rhs", "args"):
        parts = getattr(node, name, None)
        for part in parts if isinstance(parts, list) else [parts]:
            if part is not None:
                yield from aggregations(part)


def fits(labels: dict[str, str], matchers: list[Any]) -> bool:
    return all(
        matcher.value.startswith("$") or labels.get(matcher.name) == matcher.value
        for matcher in matchers
        if str(matcher.op) in ("MatchOp.Equal", "MatchOp.Re")
    )


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_query_asks_for_series_that_a_real_run_exposes(
    title: str, query: str, exposed: Series
) -> None:
    asked = list(selectors(parsed(query)))
    assert asked
    for selector in asked:
        assert selector.name in exposed, selector.name
        matchers = selector.matchers.matchers
        for labels in exposed[selector.name]:
            assert {matcher.name for matcher in matchers} <= set(labels)
        assert any(fits(labels, matchers) for labels in exposed[selector.name]), matchers


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_query_groups_by_labels_that_there_are(
    title: str, query: str, exposed: Series
) -> None:
    for aggregation in aggregations(parsed(query)):
        for selector in selectors(aggregation.expr):
            for labels in exposed[selector.name]:
                assert set(aggregation.modifier.labels) <= {*labels, *TARGET_LABELS}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_every_legend_names_labels_of_its_query(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        [grouping, *_] = [
            set(aggregation.modifier.labels) for aggregation in aggregations(parsed(target["expr"]))
        ]
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == grouping - {"le"}


def family(sample: str) -> str:
    return re.sub(r"_(bucket|sum|count|total|created)$", "", sample)


def test_every_metric_is_on_the_dashboard(exposed: Series) -> None:
    shown = {
        family(selector.name)
        for _, query in panel_queries()
        for selector in selectors(parsed(query))
    }
    assert shown == {family(name) for name in exposed}


def test_the_variables_are_values_of_labels_that_there_are(exposed: Series) -> None:
    for name in ("model", "version"):
        query = VARIABLES[name]["query"]["query"]
        assert VARIABLES[name]["definition"] == query
        [(selector, label)] = re.findall(r"^label_values\((.*), (\w+)\)$", query)
        assert label == name
        for asked in selectors(parsed(selector)):
            assert all(label in labels for labels in exposed[asked.name])


def test_every_panel_asks_the_chosen_source_for_the_chosen_models(exposed: Series) -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            for selector in selectors(parsed(target["expr"])):
                chosen = {m.name: m.value for m in selector.matchers.matchers}
                has_model = all("model" in labels for labels in exposed[selector.name])
                expected = {"model": "$model", "version": "$version"} if has_model else {}
                assert expected.items() <= chosen.items()


def test_panels_say_what_to_do_and_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert len(panel["description"]) > 40, panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for field in ("id", "title"):
        assert len({panel[field] for panel in PANELS}) == len(PANELS)


def test_alerts_say_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 0
    for rule in RULES:
        assert {"summary", "description"} <= set(rule["annotations"])
        assert rule["labels"]["severity"] in ("warning", "info")
        labels = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        for aggregation in aggregations(parsed(rule["expr"])):
            assert labels <= set(aggregation.modifier.labels)
