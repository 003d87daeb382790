"""Behind rest_model_service: the decorator in YAML, the model over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from model_cache import RedisCachingDecorator
from tests.integrations.rest_service import CONFIGURATION, predicted, rest_service
from tests.models import FunctionModel, charge, person
from tests.servers import Server
from tests.services import Service
from tests.stored import entries


@pytest.fixture
def service(server: Server, tmp_path: Path) -> Iterator[Service]:
    path = tmp_path / "rest_config.yaml"
    path.write_text(CONFIGURATION.format(url=server.url))
    with rest_service(path) as service:
        yield service


def test_the_service_caches_as_its_yaml_says(service: Service, client: redis.Redis) -> None:
    expected = charge(person(bmi=24.0)).charges
    for bmi in (24.04, 23.96):
        answer = predicted(service, person(bmi=bmi).model_dump_json())
        assert answer == (200, {"charges": expected})
    (key,) = entries(client, "rest/test_model/1.0.0/*")
    decorator = RedisCachingDecorator(
        url="redis://127.0.0.1",
        prefix="rest",
        hashing_fields=["age", "sex", "bmi", "children", "smoker"],
        reduced_precision=True,
        number_of_places=1,
    ).set_model(FunctionModel())
    assert key.decode() == decorator.cache_key(person(bmi=24.0))


def test_a_bad_request_is_answered_as_without_the_cache(
    service: Service, client: redis.Redis
) -> None:
    status, answer = predicted(service, '{"age": "old"}')
    assert 400 <= status < 500
    assert "age" in str(answer)
    assert entries(client) == []
