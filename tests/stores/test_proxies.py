"""One url for servers behind a proxy: the same promises, but for a purge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model_cache import ConfigurationError, refresh
from tests.faults.load import wait_until
from tests.faults.topologies import Twemproxy, running_twemproxy
from tests.inside import inside
from tests.models import person
from tests.stores.caching import (
    COUNT,
    PACKED,
    PASSWORD,
    TIMEOUT,
    assert_caches,
    assert_predicts_without_cache,
    decorated,
    entries_on,
    predict_all,
)


@pytest.fixture(scope="module")
def twemproxy() -> Iterator[Twemproxy]:
    with running_twemproxy(PASSWORD) as proxy:
        yield proxy


def test_twemproxy_is_one_cache(twemproxy: Twemproxy) -> None:
    with decorated(twemproxy.url, "proxied", proxied=True) as decorator:
        assert_caches(decorator)
    shares = [entries_on(server, "proxied") for server in twemproxy.servers]
    assert sum(shares) == COUNT
    assert all(shares)


def test_behind_a_proxy_a_purge_says_why_it_can_not_be(twemproxy: Twemproxy) -> None:
    with decorated(twemproxy.url, "not_purged", proxied=True) as decorator:
        predict_all(decorator)
        with pytest.raises(ConfigurationError, match="proxy does not support SCAN") as raised:
            decorator.purge()
        assert raised.value.option == "proxied"
        predict_all(decorator)
        assert decorator.stats().hits == COUNT


def test_behind_a_proxy_a_fleet_computes_and_stores(twemproxy: Twemproxy) -> None:
    with decorated(twemproxy.url, "fleet", proxied=True, single_flight="fleet") as decorator:
        assert_caches(decorator)
    assert sum(entries_on(server, "{fleet") for server in twemproxy.servers) == 0  # no lease


def test_many_keys_go_through_a_proxy(twemproxy: Twemproxy) -> None:
    with decorated(twemproxy.url, "many", proxied=True) as decorator:
        store = inside(decorator)._store
        entries = [(b"many/%d" % number, b"entry %d" % number, None) for number in range(300)]
        keys = [key for key, _, _ in entries]
        store.set_many(entries, TIMEOUT)
        assert store.get_many(keys, TIMEOUT) == [entry for _, entry, _ in entries]
        assert store.delete(keys, TIMEOUT) == len(keys)
        assert store.get_many(keys, TIMEOUT) == [None] * len(keys)


def test_a_wrong_password_for_a_proxy_predicts_without_the_cache(
    twemproxy: Twemproxy, caplog: pytest.LogCaptureFixture
) -> None:
    url = twemproxy.url.replace(PASSWORD, "wr0ng-one")
    with decorated(url, "wrong_proxy", proxied=True) as decorator:
        assert_predicts_without_cache(decorator)
    assert "wr0ng-one" not in caplog.text


@pytest.mark.parametrize("ttl", [600, None])
def test_packed_entries_go_through_a_proxy(twemproxy: Twemproxy, ttl: int | None) -> None:
    with decorated(twemproxy.url, f"packed_{ttl}", proxied=True, **{**PACKED, "ttl": ttl}) as cache:
        assert_caches(cache)
        with refresh():
            predict_all(cache)
        store = inside(cache)._store
        large, small = (cache.cache_key(person(age=age)).encode() for age in (0, 1))
        store.set_many([(large, b"L" * 100, 60_000), (small, b"s", 60_000)], TIMEOUT)
        assert store.get_many([large, small], TIMEOUT) == [b"L" * 100, b"s"]
        store.set(small, b"", 1, TIMEOUT)
        wait_until(lambda: store.get(small, TIMEOUT) is None, "the entry is erased")
        assert store.get(large, TIMEOUT) == b"L" * 100
