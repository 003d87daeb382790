"""One url for the servers behind Sentinels: the same promises as on one server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.load import wait_until
from tests.faults.topologies import SentinelPair, running_sentinel_pair
from tests.models import person
from tests.servers import Server, free_port
from tests.stores.caching import (
    COUNT,
    PASSWORD,
    SENTINEL_PASSWORD,
    assert_caches,
    assert_predicts_without_cache,
    decorated,
    entries_on,
    predict_all,
)


@pytest.fixture(scope="module")
def pair() -> Iterator[SentinelPair]:
    with running_sentinel_pair(PASSWORD, SENTINEL_PASSWORD) as pair:
        yield pair


def test_sentinels_lead_to_the_primary(pair: SentinelPair) -> None:
    with decorated(pair.url, "by_sentinels") as decorator:
        assert_caches(decorator)
        assert entries_on(pair.primary(), "by_sentinels") == COUNT
        assert decorator.purge() == COUNT
        assert entries_on(pair.primary(), "by_sentinels") == 0


def test_an_address_map_translates_what_sentinels_say(pair: SentinelPair) -> None:
    asked = set()

    def translate(address: tuple[str, int]) -> tuple[str, int]:
        asked.add(address)
        return address

    with decorated(pair.url, "translated", address_map=translate) as decorator:
        assert_caches(decorator)
    assert ("127.0.0.1", pair.primary().port) in asked


def test_sentinels_lead_to_a_database(pair: SentinelPair) -> None:
    ports = [sentinel.port for sentinel in pair.sentinels]
    with decorated(pair.url_of(*ports, database=3), "in_three") as decorator:
        assert_caches(decorator)
    assert entries_on(pair.primary(), "in_three", 3) == COUNT
    assert entries_on(pair.primary(), "in_three", 0) == 0


def test_one_good_sentinel_among_wrong_ones_is_enough(
    pair: SentinelPair, shared_server: Server
) -> None:
    ports = (free_port(), shared_server.port, pair.sentinels[2].port)
    with decorated(pair.url_of(*ports), "wrong_sentinels") as decorator:
        assert_caches(decorator)


def test_a_service_that_no_sentinel_knows_is_named_in_the_log(
    pair: SentinelPair, caplog: pytest.LogCaptureFixture
) -> None:
    url = pair.url_of(pair.sentinels[0].port, service="catch")
    with decorated(url, "unknown_service") as decorator:
        assert_predicts_without_cache(decorator)
    assert "catch" in caplog.text
    assert PASSWORD not in caplog.text
    assert SENTINEL_PASSWORD not in caplog.text


@pytest.mark.parametrize("wrong", [PASSWORD, SENTINEL_PASSWORD])
def test_a_wrong_password_predicts_without_the_cache_and_is_not_shown(
    pair: SentinelPair, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    url = pair.url.replace(wrong, "wr0ng-one")
    with decorated(url, "wrong_password") as decorator:
        assert_predicts_without_cache(decorator)
    assert caplog.records
    for secret in (PASSWORD, SENTINEL_PASSWORD, "wr0ng-one"):
        assert secret not in caplog.text


def test_after_a_failover_entries_go_to_the_new_primary(pair: SentinelPair) -> None:
    with decorated(pair.url, "failed_over") as decorator:
        decorator.predict(person(age=99))
        old = pair.primary()
        new = next(server for server in pair.servers if server is not old)
        pair.fail_over()
        wait_until(lambda: pair.has_primary(new), "the replica took over")
        wait_until(lambda: pair.is_replica(old), "the old primary is a replica")

        def stores_there() -> bool:
            predict_all(decorator)
            return entries_on(pair.primary(), "failed_over") == COUNT + 1

        wait_until(stores_there, "the entries are in the new primary")
        hits = decorator.stats().hits
        predict_all(decorator)
        assert decorator.stats().hits == hits + COUNT
