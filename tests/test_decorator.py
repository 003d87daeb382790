"""The public interface of the decorator, as in the article, and its predictions."""

from __future__ import annotations

import inspect
import json
import logging
from typing import Any

import pytest
import redis

import model_cache
from model_cache import (
    ConfigurationError,
    ModelCacheError,
    NotCacheableError,
    RedisCachingDecorator,
    StoreUnavailableError,
)
from model_cache.keys.key import DIGEST_LENGTH
from tests.models import Anything, Charges, Echo, FunctionModel, Person, charge, person
from tests.servers import Server, free_port
from tests.stored import entries


def test_the_public_names_are_these() -> None:
    assert model_cache.__all__ == [
        "Cache",
        "CacheInfo",
        "CacheSettings",
        "Compressor",
        "ConfigurationError",
        "Difference",
        "ExplainedCall",
        "Explanation",
        "Memoized",
        "MemoizedRows",
        "ModelCacheError",
        "NotCacheableError",
        "Outcome",
        "RedisCachingDecorator",
        "Rounded",
        "Serder",
        "Stats",
        "StoreUnavailableError",
        "bypass",
        "do_not_store",
        "embedded_redis",
        "last_outcome",
        "read_only",
        "record_outcomes",
        "refresh",
        "register_canonical",
        "register_compressor",
        "register_serder",
        "revision_of",
        "set_ttl",
    ]
    for name in model_cache.__all__:
        public = getattr(model_cache, name)
        assert public.__doc__, name


def test_the_articles_nine_arguments_come_first_in_its_order() -> None:
    parameters = list(inspect.signature(RedisCachingDecorator).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [
        "host",
        "port",
        "database",
        "prefix",
        "hashing_fields",
        "serder",
        "use_compression",
        "reduced_precision_fields",
        "number_of_places",
    ]
    assert (parameters[0].default, parameters[1].default, parameters[2].default) == (
        "localhost",
        6379,
        0,
    )


def test_it_is_used_as_in_the_article(server: Server, client: redis.Redis) -> None:
    decorator = RedisCachingDecorator(
        host="127.0.0.1", port=server.port, database=0, prefix="prefix"
    )
    model = FunctionModel()
    decorated = decorator.set_model(model)
    assert decorated is decorator
    assert repr(decorated) == "RedisCachingDecorator(FunctionModel)"

    first, second = decorated.predict(person()), decorated.predict(person())

    assert first == second == charge(person())
    assert len(model.calls) == 1
    (key,) = entries(client, "prefix*")
    assert key.decode() == decorated.cache_key(person())
    assert key.startswith(b"prefix/test_model/1.0.0/")
    assert json.loads(client.get(key) or b"") == {"charges": first.charges}


def test_metadata_and_schemas_pass_through(decorator: RedisCachingDecorator) -> None:
    decorator.set_model(FunctionModel())
    assert decorator.display_name == "Test Model"
    assert decorator.qualified_name == "test_model"
    assert decorator.description == "A model for tests."
    assert decorator.version == "1.0.0"
    assert decorator.input_schema is Person
    assert decorator.output_schema is Charges


def test_attributes_are_set_on_the_model(decorator: RedisCachingDecorator) -> None:
    model = FunctionModel()
    decorator.set_model(model)
    decorator.threshold = 3
    assert model.threshold == 3
    assert decorator.threshold == 3


def test_a_hit_is_an_object_of_its_own(decorator: RedisCachingDecorator) -> None:
    decorator.set_model(FunctionModel())
    first = decorator.predict(person())
    expected = first.charges
    first.charges = -1.0
    second = decorator.predict(person())
    second.charges = -2.0
    assert decorator.predict(person()).charges == expected


def test_swapped_values_do_not_share_an_entry(decorator: RedisCachingDecorator) -> None:
    # With the article's key both of these pairs meet.
    decorator.set_model(FunctionModel())
    for one, other in (
        (person(age=20, bmi=21.0), person(age=21, bmi=20.0)),
        (person(children=1, smoker=False), person(children=0, smoker=True)),
    ):
        assert decorator.predict(one) == charge(one)
        assert decorator.predict(other) == charge(other)


def test_a_models_exception_passes_through_and_is_not_cached(
    decorator: RedisCachingDecorator, client: redis.Redis
) -> None:
    error = RuntimeError("no weights")

    def fail(_: Person) -> Charges:
        raise error

    decorator.set_model(FunctionModel(function=fail))
    for _ in range(2):
        with pytest.raises(RuntimeError) as raised:
            decorator.predict(person())
        assert raised.value is error
    assert entries(client) == []


@pytest.mark.parametrize("data", [None, {"age": 42}, "text", Charges(charges=1)])
def test_an_invalid_input_gets_the_models_own_answer(
    decorator: RedisCachingDecorator, client: redis.Redis, data: Any
) -> None:
    def answer(data: Any) -> Any:
        if not isinstance(data, Person):
            raise TypeError(f"{type(data).__name__} is no person")

    model = FunctionModel(function=answer)
    decorator.set_model(model)
    with pytest.raises(TypeError) as direct:
        model.predict(data)
    with pytest.raises(TypeError) as decorated:
        decorator.predict(data)
    assert str(decorated.value) == str(direct.value)
    assert entries(client) == []
    with pytest.raises(NotCacheableError, match="expected an instance of Person"):
        decorator.cache_key(data)


def test_an_input_without_a_key_is_predicted_and_logged_once(
    decorator: RedisCachingDecorator, caplog: pytest.LogCaptureFixture
) -> None:
    decorator.set_model(FunctionModel(Anything, Echo, lambda data: Echo(text=str(data.value))))
    with caplog.at_level(logging.WARNING, "model_cache"):
        for number in range(3):
            value = {"secret": object(), "number": number}
            answer = decorator.predict(Anything(value=value))
            assert answer.text == str(value)
    (record,) = caplog.records
    assert "value" in record.message
    assert "builtins.object" in record.message
    assert decorator.stats().uncacheable == 3


def test_without_a_ttl_entries_stay(decorator: RedisCachingDecorator, client: redis.Redis) -> None:
    decorator.set_model(FunctionModel()).predict(person())
    assert client.ttl(decorator.cache_key(person())) == -1


def test_a_cache_that_is_turned_off_still_rounds(client: redis.Redis, server: Server) -> None:
    model = FunctionModel()
    decorator = RedisCachingDecorator(
        url=server.url, enabled=False, reduced_precision=True, number_of_places=0
    )
    decorator.set_model(model)
    for _ in range(2):
        assert decorator.predict(person(bmi=24.3)) == charge(person(bmi=24.0))
    assert len(model.calls) == 2
    assert entries(client) == []
    assert decorator.stats().store == "off"
    assert decorator.purge() == 0
    decorator.close()


def test_the_environment_turns_the_cache_off(
    client: redis.Redis, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_CACHE_DISABLED", "1")
    RedisCachingDecorator(url=server.url).set_model(FunctionModel()).predict(person())
    assert entries(client) == []


def test_a_purge_deletes_while_it_lists_the_keys(
    server: Server, client: redis.Redis, decorator: RedisCachingDecorator
) -> None:
    """There may be more keys than fit into the memory of the process."""
    head = decorator.set_model(FunctionModel()).cache_key(person())[:-DIGEST_LENGTH]
    client.mset({f"{head}{number:0{DIGEST_LENGTH}}": "{}" for number in range(5000)})
    client.config_set("slowlog-max-len", 10_000)
    client.config_set("slowlog-log-slower-than", 0)
    try:
        assert decorator.purge() == 5000
        newest_first = [each["command"].split()[0] for each in client.slowlog_get(10_000)]
    finally:
        client.config_set("slowlog-log-slower-than", 10_000)
        client.slowlog_reset()
    asked = newest_first[::-1]
    assert asked.index(b"UNLINK") < asked.index(b"SCAN", asked.index(b"UNLINK"))


def test_purge_deletes_this_version_and_nothing_else(server: Server, client: redis.Redis) -> None:
    decorators = []
    for name, version, prefix in (
        ("model", "1", None),
        ("model", "10", None),
        ("model", "2", None),
        ("model2", "1", None),
        ("*", "1", None),
        ("1", "1", "model"),
        ("model", "1", "model"),
    ):
        decorator = RedisCachingDecorator(url=server.url, prefix=prefix)
        decorator.set_model(FunctionModel(qualified_name=name, version=version))
        for age in range(1100 if name == "*" else 3):
            decorator.predict(person(age=age))
        decorators.append(decorator)
    client.set("model/1/notes", "mine")
    client.set("model/1/" + "x" * 21 + "/", "mine")
    client.set("model/1/" + "é" * 11, "mine")
    before = len(entries(client))

    assert decorators[0].purge() == 3
    assert len(entries(client)) == before - 3
    assert decorators[4].purge() == 1100
    assert len(entries(client)) == before - 3 - 1100
    assert decorators[0].purge() == 0
    assert client.get("model/1/notes") == b"mine"


def test_stats_count_what_happened(decorator: RedisCachingDecorator) -> None:
    decorator.set_model(FunctionModel())
    assert decorator.stats().hit_ratio == 0.0
    for _ in range(4):
        decorator.predict(person())
    stats = decorator.stats()
    assert (stats.hits, stats.misses, stats.stored, stats.predictions) == (3, 1, 1, 4)
    assert stats.hit_ratio == 0.75
    assert stats.bytes_stored == len(b'{"charges":42024020.2}')
    assert stats.model_seconds > 0
    assert stats.hit_seconds > 0
    assert stats.store == "closed"
    with pytest.raises(AttributeError):
        stats.hits = 0  # type: ignore[misc]


def test_predicting_without_a_model_says_what_to_do() -> None:
    with pytest.raises(ModelCacheError, match="set_model"):
        RedisCachingDecorator().predict(person())


def test_set_model_refuses_other_objects_and_the_old_model_stays(
    decorator: RedisCachingDecorator,
) -> None:
    decorator.set_model(FunctionModel())
    with pytest.raises(ConfigurationError, match="not an ml-base MLModel"):
        decorator.set_model("model")
    with pytest.raises(ConfigurationError):
        decorator.set_model(FunctionModel(input_schema=dict))  # type: ignore[arg-type]
    assert decorator.predict(person()) == charge(person())


def test_two_databases_are_two_caches(server: Server, client: redis.Redis) -> None:
    with RedisCachingDecorator(host="127.0.0.1", port=server.port, database=3) as decorator:
        decorator.set_model(FunctionModel()).predict(person())
    assert entries(client) == []
    with server.client(db=3) as other:
        assert len(entries(other)) == 1


def test_a_ping_asks_the_store_and_raises_when_it_is_unavailable(
    server: Server, decorator: RedisCachingDecorator
) -> None:
    decorator.set_model(FunctionModel())
    assert decorator.ping() > 0.0
    assert decorator.stats().predictions == 0
    unreachable = RedisCachingDecorator(port=free_port()).set_model(FunctionModel())
    with pytest.raises(StoreUnavailableError):
        unreachable.ping()
    assert RedisCachingDecorator(enabled=False).set_model(FunctionModel()).ping() == 0.0


@pytest.mark.parametrize("error", [StopIteration("once"), StopAsyncIteration(), RuntimeError("r")])
def test_any_error_of_the_model_arrives_as_it_is(
    decorator: RedisCachingDecorator, error: Exception
) -> None:
    def fail(_: Person) -> Charges:
        raise error

    decorator.set_model(FunctionModel(function=fail))
    with pytest.raises(type(error)) as raised:
        decorator.predict(person())
    assert raised.value is error
    assert raised.value.__cause__ is None
