"""`encryption_key`: entries can be read with the key only, and only where they were written."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from model_cache import Cache, ConfigurationError, RedisCachingDecorator, last_outcome
from model_cache.entries.codec import Codec
from model_cache.entries.encryption import Cipher
from model_cache.entries.envelope import ENCRYPTED, HEAD_SIZE
from model_cache.keys.key import encryption_key
from model_cache.options.config import Config
from tests.cli.command import run
from tests.models import Charges, FunctionModel, Person, person
from tests.servers import Server
from tests.stored import entries

OLD, NEW, SECRET = "the-old-encryption-key", "the-new-encryption-key", "the-secret-of-the-digests"
PACKED = {"layout": "packed", "expected_entries": 1000}


def cached(server: Server, **options: Any) -> Any:
    options = {"url": server.url, "timeout": 5.0, **options}
    return RedisCachingDecorator(**options).set_model(FunctionModel())


def kind(cache: Any, data: Person) -> str:
    """Predict, check the answer, and return where it came from."""
    assert cache.predict(data) == FunctionModel().predict(data)
    outcome = last_outcome()
    assert outcome is not None
    return outcome.kind


def kinds(cache: Any, ages: int = 5) -> set[str]:
    return {kind(cache, person(age=age)) for age in range(ages)}


def stored(client: Any) -> Iterator[tuple[bytes, bytes]]:
    """Yield each entry with its key, or of a bucket with its field."""
    for key in entries(client):
        if client.type(key) == b"hash":
            yield from client.hgetall(key).items()
        else:
            yield key, client.get(key)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"serder": "MessagePack"},
        {"use_compression": "zstd"},
        {"integrity": True},
        {"key_secret": SECRET},
        {"near_cache": 100},
        {"ttl": 60, "stale_if_error": 60},
        {"write": "background"},
        PACKED,
    ],
)
def test_nothing_in_redis_is_readable_and_everything_is_found(
    server: Server, client: redis.Redis, options: dict[str, Any]
) -> None:
    with cached(server, encryption_key=OLD, **options) as cache:
        assert kinds(cache) == {"miss"}
    with cached(server, encryption_key=OLD, **options) as cache:
        for _ in range(2):
            assert kinds(cache) == {"hit"}
        assert cache.stats().undecodable == cache.stats().write_failures == 0
    values = [value for _, value in stored(client)]
    assert len(values) == 5
    assert not any(b"charges" in value for value in values)
    assert len({value[-40:] for value in values}) == 5


def test_batches_and_event_loops_encrypt_as_well(server: Server) -> None:
    people = [person(age=age) for age in range(20)]
    expected = list(map(FunctionModel().predict, people))
    with cached(server, encryption_key=OLD) as cache:
        assert cache.predict_many(people) == expected

        async def again() -> Any:
            async with cached(server, encryption_key=OLD) as other:
                return await other.apredict_many(people), other.stats().hits

        assert asyncio.run(again()) == (expected, 20)


def test_functions_and_rows_are_encrypted(server: Server, client: redis.Redis) -> None:
    with Cache(server.url, encryption_key=OLD) as cache:

        @cache.memoize(version="1")
        def spell(number: int) -> str:
            return f"in words: {number}"

        @cache.memoize_rows(version="1")
        def double(rows: np.ndarray) -> np.ndarray:
            return rows * 2.0

        rows = np.arange(12.0).reshape(6, 2)
        for _ in range(2):
            assert spell(7) == "in words: 7"
            np.testing.assert_array_equal(double(rows), rows * 2.0)
        assert cache.stats().hits == 7
        assert cache.stats().undecodable == 0
    assert all(value[4] & ENCRYPTED for _, value in stored(client))
    assert not any(b"words" in value for _, value in stored(client))


@pytest.mark.parametrize(
    "reader",
    [
        {},
        {"integrity": True},
        {"encryption_key": NEW},
        {"encryption_key": [NEW, "another-key-altogether"]},
    ],
)
def test_without_the_key_an_entry_is_a_miss(server: Server, reader: dict[str, Any]) -> None:
    with (
        cached(server, key_secret=SECRET, encryption_key=OLD) as writer,
        cached(server, key_secret=SECRET, **reader) as other,
    ):
        assert kinds(writer) == {"miss"}
        assert kinds(other) == {"miss"}
        assert other.stats().undecodable == 5


def test_a_reader_with_a_key_takes_no_entry_that_is_not_encrypted(server: Server) -> None:
    with (
        cached(server, key_secret=SECRET) as writer,
        cached(server, key_secret=SECRET, encryption_key=OLD) as reader,
    ):
        assert kinds(writer) == {"miss"}
        assert kinds(reader) == {"miss"}


def test_moved_cut_and_changed_entries_are_misses(server: Server, client: redis.Redis) -> None:
    with cached(server, encryption_key=OLD, ttl=60, stale_if_error=60) as cache:
        key, other = (cache.cache_key(person(age=age)) for age in (1, 2))
        assert kinds(cache, 3) == {"miss"}
        entry: Any = client.get(other)
        changed = [bytes([*entry[:n], entry[n] ^ 1, *entry[n + 1 :]]) for n in range(len(entry))]
        cut = [entry[:size] for size in range(len(entry))]
        own: Any = client.get(key)
        replayed = [entry, entry[:20] + own[20:], own + b"x", entry + own]
        for wrong in replayed:
            client.set(key, wrong)
            assert kind(cache, person(age=1)) == "miss", wrong
        for wrong in [*changed, *cut]:
            client.set(other, wrong)
            assert kind(cache, person(age=2)) == "miss", wrong


def test_keys_rotate_without_a_purge(server: Server) -> None:
    """The steps of docs/entries.md: no entry is lost, in no worker, at any step."""
    steps: list[Any] = [OLD, [OLD, NEW], [NEW, OLD]]
    with cached(server, key_secret=SECRET, encryption_key=OLD) as cache:
        assert kinds(cache) == {"miss"}
    for before, after in itertools.pairwise(steps):
        with (
            cached(server, key_secret=SECRET, encryption_key=before) as old,
            cached(server, key_secret=SECRET, encryption_key=after) as new,
        ):
            assert kinds(old) == kinds(new) == {"hit"}
            fresh = person(age=100 + steps.index(after))
            assert kind(new, fresh) == "miss"
            assert kind(old, fresh) == "hit"
    with cached(server, key_secret=SECRET, encryption_key=NEW) as cache:
        assert kind(cache, person(age=102)) == "hit"  # written with the new key
        assert kind(cache, person(age=1)) == "miss"  # with the old one only


def test_without_a_key_secret_the_last_key_keeps_the_entries(server: Server) -> None:
    with cached(server, encryption_key=OLD) as cache:
        assert kinds(cache) == {"miss"}
    with cached(server, encryption_key=[NEW, OLD]) as cache:
        assert kinds(cache) == {"hit"}
        assert kind(cache, person(age=50)) == "miss"
    with cached(server, encryption_key=NEW, key_secret=OLD) as cache:
        assert kind(cache, person(age=50)) == "hit"


def test_digests_are_keyed(server: Server) -> None:
    data, keys = person(), set()
    for options in ({}, {"key_secret": OLD}, {"encryption_key": OLD}, {"encryption_key": NEW}):
        with cached(server, **options) as cache:
            keys.add(cache.cache_key(data))
    assert len(keys) == 3  # as with a key_secret of the same text


def test_each_entry_has_a_nonce_of_its_own() -> None:
    codec = Codec(Charges, cipher=Cipher([encryption_key(OLD)]))
    entries = {codec.encode(b"key", Charges(charges=1.0)) for _ in range(100)}
    assert len({entry[HEAD_SIZE : HEAD_SIZE + 12] for entry in entries}) == 100
    assert all(codec.read(b"key", entry)[:2] == (Charges(charges=1.0), True) for entry in entries)


def test_a_stale_time_can_be_read_but_not_changed() -> None:
    codec = Codec(Charges, cipher=Cipher([encryption_key(OLD)]))
    entry = codec.encode(b"key", Charges(charges=1.0), int(1000 * time.time()) - 5)
    assert codec.read(b"key", entry)[:2] == (Charges(charges=1.0), False)
    later = entry[:HEAD_SIZE] + b"\x7f" + entry[HEAD_SIZE + 1 :]
    assert codec.read(b"key", later).prediction is None


@pytest.mark.parametrize("value", ["", [], [""], [None], 7, [7], ["a\n"], {"key": "a"}])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^encryption_key: "):
        RedisCachingDecorator(encryption_key=value)


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ml-model-cache\[encryption\]"'):
        RedisCachingDecorator(encryption_key=OLD)


def test_the_key_is_not_used_as_it_is_given() -> None:
    config = Config.parse({**RedisCachingDecorator()._options, "encryption_key": "k" * 32})
    derived = encryption_key(config.encryption_key[0]).get_secret_value()
    assert len(derived) == 32
    assert derived != b"k" * 32


def test_inspect_reads_entries_with_the_key_from_the_environment(server: Server) -> None:
    with cached(server, encryption_key=OLD) as cache:
        key = cache.cache_key(person())
        cache.predict(person())
    words = ("inspect", "--url", server.url, "--json", key)
    assert run(*words).json["entry"]["value"] == "encrypted, and no key was given"
    wrong = run(*words, MODEL_CACHE_ENCRYPTION_KEY=NEW)
    assert wrong.json["entry"]["tag"] == "wrong"
    for given in (OLD, json.dumps([NEW, OLD])):
        right = run(*words, MODEL_CACHE_ENCRYPTION_KEY=given)
        assert right.json["entry"]["tag"] == "right"
        assert right.json["entry"]["value"] == {"charges": cache.predict(person()).charges}
        assert OLD not in right.stdout + right.stderr
    listed = run("inspect", "--url", server.url, MODEL_CACHE_ENCRYPTION_KEY=OLD)
    assert "encrypted" in listed.stdout
    assert listed.code == 0


@pytest.mark.parametrize("command", ["inspect", "doctor"])
def test_a_bad_key_in_the_environment_is_an_error_that_does_not_show_it(
    server: Server, command: str
) -> None:
    refused = run(command, "--url", server.url, MODEL_CACHE_ENCRYPTION_KEY=f"[{OLD}")
    assert refused.code == 2
    assert refused.stderr.startswith("model-cache: MODEL_CACHE_ENCRYPTION_KEY: expected a secret")
    assert OLD not in refused.stdout + refused.stderr
