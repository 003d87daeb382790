"""One url for servers behind a proxy: the same promises, but for a purge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model_cache import ConfigurationError
from tests.faults.topologies import Twemproxy, running_twemproxy
from tests.stores.caching import (
    COUNT,
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
        store = decorator._predictor._store
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
