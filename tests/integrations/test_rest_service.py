"""Behind rest_model_service: the decorator in YAML, the model over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from model_cache import RedisCachingDecorator
from tests.integrations.rest_service import CONFIGURATION, post, rest_service
from tests.models import FunctionModel, charge, person
from tests.servers import Server
from tests.stored import entries


@pytest.fixture
def service(server: Server, tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "rest_config.yaml"
    path.write_text(CONFIGURATION.format(url=server.url))
    with rest_service(path) as port:
        yield port


def test_the_service_caches_by_its_yaml(service: int, client: redis.Redis) -> None:
    body = person(bmi=24.04).model_dump_json()
    first, second = post(service, body), post(service, person(bmi=23.96).model_dump_json())
    expected = charge(person(bmi=24.0)).charges
    assert first[0] == second[0] == 200
    assert json.loads(first[1]) == json.loads(second[1]) == {"charges": expected}
    (key,) = entries(client, "rest/test_model/1.0.0/*")
    decorator = RedisCachingDecorator(
        url="redis://127.0.0.1",
        prefix="rest",
        hashing_fields=["age", "sex", "bmi", "children", "smoker"],
        reduced_precision=True,
        number_of_places=1,
    ).set_model(FunctionModel())
    assert key.decode() == decorator.cache_key(person(bmi=24.0))


def test_a_bad_request_is_answered_as_without_the_cache(service: int, client: redis.Redis) -> None:
    status, answer = post(service, '{"age": "old"}')
    assert 400 <= status < 500
    assert "age" in answer
    assert entries(client) == []
