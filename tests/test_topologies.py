"""One url for every topology: the same promises on a cluster, on Sentinels, behind a proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.crc import key_slot

from model_cache import ConfigurationError, RedisCachingDecorator
from tests.faults.load import wait_until
from tests.faults.topologies import (
    Cluster,
    SentinelPair,
    Twemproxy,
    cut_off_from_primary,
    running_cluster,
    running_sentinel_pair,
    running_twemproxy,
)
from tests.models import FunctionModel, charge, person
from tests.servers import Server, free_port

# Passwords everywhere, so that whatever works here works with one.
PASSWORD, SENTINEL_PASSWORD = "s3cret-of-servers", "s3cret-of-sentinels"
TIMEOUT = 5.0  # generous: the machine may be busy
COUNT = 40


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(password=PASSWORD) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pair() -> Iterator[SentinelPair]:
    with running_sentinel_pair(PASSWORD, SENTINEL_PASSWORD) as pair:
        yield pair


@pytest.fixture(scope="module")
def twemproxy() -> Iterator[Twemproxy]:
    with running_twemproxy(PASSWORD) as proxy:
        yield proxy


@contextlib.contextmanager
def decorated(url: str, name: str, **options: Any) -> Iterator[RedisCachingDecorator]:
    """A decorator of a model whose name no other test uses, so that each begins cold."""
    with RedisCachingDecorator(url=url, **{"timeout": TIMEOUT, **options}) as decorator:
        yield decorator.set_model(FunctionModel(qualified_name=name))


def predict_all(decorator: RedisCachingDecorator) -> None:
    for age in range(COUNT):
        assert decorator.predict(person(age=age)) == charge(person(age=age))


def assert_caches(decorator: RedisCachingDecorator) -> None:
    """Each prediction is stored, and is a hit then."""
    before = decorator.stats()
    predict_all(decorator)
    predict_all(decorator)
    stats = decorator.stats()
    assert stats.stored - before.stored == COUNT
    assert stats.hits - before.hits == COUNT
    assert (stats.unavailable, stats.write_failures) == (0, 0)


def assert_predicts_without_cache(decorator: RedisCachingDecorator) -> None:
    predict_all(decorator)
    stats = decorator.stats()
    assert (stats.unavailable, stats.hits) == (COUNT, 0)


def entries_on(server: Server, name: str, database: int = 0) -> int:
    with server.client(password=PASSWORD, db=database) as client:
        return len(client.keys(f"{name}/*"))


def primaries(cluster: Cluster) -> Sequence[Server]:
    return [cluster.primary_of(slot) for slot in (0, 8_000, 16_383)]


def test_a_cluster_is_one_cache(cluster: Cluster) -> None:
    with decorated(cluster.url, "one_cache") as decorator:
        assert_caches(decorator)
    shares = [entries_on(node, "one_cache") for node in primaries(cluster)]
    assert sum(shares) == COUNT
    assert all(shares)


def test_a_purge_reaches_all_shards_and_no_other_models(cluster: Cluster) -> None:
    with (
        decorated(cluster.url, "purged") as purged,
        decorated(cluster.url, "kept") as kept,
    ):
        predict_all(purged)
        predict_all(kept)
        assert purged.purge() == COUNT
        assert sum(entries_on(node, "purged") for node in primaries(cluster)) == 0
        assert sum(entries_on(node, "kept") for node in primaries(cluster)) == COUNT
        assert purged.purge() == 0
        assert_caches(purged)


def test_a_purge_reaches_a_shard_that_is_new() -> None:
    with running_cluster() as cluster, decorated(cluster.url, "resharded") as decorator:
        predict_all(decorator)
        slot = key_slot(decorator.cache_key(person(age=0)).encode())
        added = cluster.add_node()
        cluster.move(slot, added)
        assert decorator.purge() == COUNT
        with added.client() as client:
            assert client.dbsize() == 0


def test_many_keys_go_each_to_its_own_shard(cluster: Cluster) -> None:
    with decorated(cluster.url, "many") as decorator:
        store = decorator._predictor._store
        entries = [(b"many/%d" % number, b"entry %d" % number, None) for number in range(300)]
        store.set_many(entries, TIMEOUT)
        keys = [key for key, _, _ in entries]
        wanted = [keys[7], b"many/nothing", *keys, keys[7]]
        by_key = {key: entry for key, entry, _ in entries}
        assert store.get_many(wanted, TIMEOUT) == [by_key.get(key) for key in wanted]
        assert all(entries_on(node, "many") for node in primaries(cluster))
        assert sorted(store.scan(b"many/*", TIMEOUT)) == sorted(keys)
        assert store.delete([*keys, b"many/nothing"], TIMEOUT) == len(keys)
        assert store.get_many(keys, TIMEOUT) == [None] * len(keys)
        assert store.get_many([], TIMEOUT) == []
        assert store.delete([], TIMEOUT) == 0


def test_a_time_to_live_holds_on_a_cluster(cluster: Cluster) -> None:
    with decorated(cluster.url, "mortal", ttl=600) as decorator:
        decorator.predict(person())
        key = decorator.cache_key(person())
        left = [_ttl(node, key) for node in primaries(cluster)]
    assert sorted(left)[:2] == [-2, -2]
    assert 500 < max(left) <= 600


def _ttl(node: Server, key: str) -> int:
    with node.client(password=PASSWORD) as client:
        # Where the key is not, the reply is a redirection.
        with contextlib.suppress(Exception):
            return int(client.ttl(key))
        return -2


def test_replicas_answer_reads_on_request_only(cluster: Cluster) -> None:
    replicas = [node for node in cluster.nodes if node not in primaries(cluster)]

    def reads() -> list[int]:
        counts = []
        for node in replicas:
            with node.client(password=PASSWORD) as client:
                statistics: Any = client.info("commandstats")
                counts.append(statistics.get("cmdstat_get", {"calls": 0})["calls"])
        return counts

    with decorated(cluster.url, "from_primaries") as decorator:
        before = reads()
        assert_caches(decorator)
        assert reads() == before
    with decorated(f"{cluster.url}?replicas=true", "from_replicas") as decorator:
        predict_all(decorator)
        stored = [entries_on(node, "from_replicas") for node in primaries(cluster)]
        wait_until(
            lambda: (
                sorted(entries_on(node, "from_replicas") for node in replicas) == sorted(stored)
            ),
            "the replicas have the entries",
        )
        hits, before = decorator.stats().hits, reads()
        for _ in range(5):
            predict_all(decorator)
        assert decorator.stats().hits == hits + 5 * COUNT
        assert all(after > first for after, first in zip(reads(), before, strict=True))


def replicas_of(cluster: Cluster) -> list[Server]:
    return [node for node in cluster.nodes if node not in primaries(cluster)]


@contextlib.contextmanager
def reading_replicas(cluster: Cluster, name: str, **options: Any) -> Iterator[Any]:
    """A decorator that reads from replicas, which have all entries."""
    with decorated(f"{cluster.url}?replicas=true", name, **options) as decorator:
        predict_all(decorator)
        wait_until(
            lambda: sum(entries_on(node, name) for node in replicas_of(cluster)) == COUNT,
            "the replicas have the entries",
        )
        yield decorator


def assert_all_hit(decorator: RedisCachingDecorator, times: int = 5) -> None:
    before = decorator.stats()
    for _ in range(times):
        predict_all(decorator)
    stats = decorator.stats()
    assert stats.hits - before.hits == times * COUNT
    assert stats.unavailable == before.unavailable


def test_a_frozen_replica_is_left_alone_and_its_primary_read(cluster: Cluster) -> None:
    with reading_replicas(cluster, "frozen_replica", timeout=2.0) as decorator:
        frozen = replicas_of(cluster)[0]
        frozen.freeze()
        try:
            assert_all_hit(decorator)
            assert decorator.stats().store == "partly_open"
        finally:
            frozen.thaw()
        wait_until(cluster.is_whole, "the cluster is whole again")

        def is_read_again() -> bool:
            predict_all(decorator)
            return bool(decorator.stats().store == "closed")

        wait_until(is_read_again, "the replica is read again")


def test_a_replica_without_a_primary_is_left_alone(cluster: Cluster) -> None:
    with reading_replicas(cluster, "masterdown") as decorator:
        cut_off = replicas_of(cluster)[1]
        cut_off_from_primary(cut_off, PASSWORD)
        try:
            assert_all_hit(decorator)
            assert decorator.stats().store == "partly_open"
        finally:
            with cut_off.client(password=PASSWORD) as client:
                client.config_set("masterauth", PASSWORD)
                client.config_set("replica-serve-stale-data", "yes")
        wait_until(cluster.is_whole, "the cluster is whole again")


def test_a_replica_that_joins_later_is_read_too() -> None:
    with running_cluster() as cluster:
        decorator = RedisCachingDecorator(url=f"{cluster.url}?replicas=true", timeout=TIMEOUT)
        with decorator.set_model(FunctionModel(qualified_name="joined")):
            predict_all(decorator)
            decorator._predictor._store.cluster._refresh_after = 0.1
            added = cluster.add_node()
            cluster.ask(added, "CLUSTER", "REPLICATE", cluster.node_id(cluster.nodes[0]))

            def is_read() -> bool:
                predict_all(decorator)
                with added.client() as client:
                    statistics: Any = client.info("commandstats")
                return "cmdstat_get" in statistics

            wait_until(is_read, "the new replica is read")


def test_one_good_node_among_wrong_ones_is_enough(cluster: Cluster, shared_server: Server) -> None:
    ports = (free_port(), shared_server.port, cluster.nodes[2].port)
    with decorated(cluster.url_of(*ports), "among_wrong_ones") as decorator:
        assert_caches(decorator)


def test_a_replica_is_a_good_node_to_start_from(cluster: Cluster) -> None:
    with decorated(cluster.url_of(cluster.nodes[5].port), "from_a_replica") as decorator:
        assert_caches(decorator)


def test_a_server_that_is_no_cluster_is_no_cache_then(shared_server: Server) -> None:
    url = f"redis+cluster://127.0.0.1:{shared_server.port}"
    with decorated(url, "no_cluster") as decorator:
        assert_predicts_without_cache(decorator)


def test_a_fleet_on_a_cluster_computes_once(cluster: Cluster) -> None:
    entered, go = threading.Event(), threading.Event()

    def predict(data: Any) -> Any:
        entered.set()
        assert go.wait(TIMEOUT)
        return charge(data)

    models = [FunctionModel(function=predict, qualified_name="fleet") for _ in range(2)]
    decorators = [
        RedisCachingDecorator(url=cluster.url, timeout=TIMEOUT, single_flight="fleet").set_model(
            model
        )
        for model in models
    ]
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda each=each: answers.append(each.predict(person())))
        for each in decorators
    ]
    threads[0].start()
    assert entered.wait(TIMEOUT)
    threads[1].start()
    threads[1].join(0.1)  # it waits for the other
    go.set()
    for thread in threads:
        thread.join()
    assert answers == [charge(person())] * 2
    assert sum(len(model.calls) for model in models) == 1
    for decorator in decorators:
        decorator.close()


def test_once_a_replica_has_taken_over_all_is_well_again() -> None:
    with running_cluster() as cluster, decorated(cluster.url, "after_failover") as decorator:
        predict_all(decorator)
        cluster.nodes[0].kill()
        wait_until(cluster.works, "the replica took over")

        def misses() -> int:
            before = decorator.stats().hits
            predict_all(decorator)
            return before + COUNT - decorator.stats().hits

        wait_until(lambda: misses() == 0, "all are hits again")
        assert decorator.stats().store == "closed"


def test_a_cluster_that_can_not_be_reached_at_first_costs_next_to_nothing_soon() -> None:
    with running_cluster() as cluster:
        for node in cluster.nodes:
            node.freeze()
        with decorated(cluster.url, "frozen", timeout=0.1) as decorator:
            wait_until(lambda: predicts_at_once(decorator), "predictions wait no more", 3.0)


def predicts_at_once(decorator: RedisCachingDecorator) -> bool:
    """Whether a good many predictions in a row take less than a single time-out."""
    over: list[None] = []
    deadline = threading.Timer(0.09, over.append, [None])
    deadline.start()
    predict_all(decorator)
    deadline.cancel()
    deadline.join()
    return not over


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
def test_a_wrong_password_is_no_cache_and_is_not_told(
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


def test_twemproxy_is_one_cache(twemproxy: Twemproxy) -> None:
    with decorated(twemproxy.url, "proxied", proxied=True) as decorator:
        assert_caches(decorator)
    shares = [entries_on(server, "proxied") for server in twemproxy.servers]
    assert sum(shares) == COUNT
    assert all(shares)


def test_behind_a_proxy_a_purge_says_why_it_can_not_be(twemproxy: Twemproxy) -> None:
    with decorated(twemproxy.url, "not_purged", proxied=True) as decorator:
        predict_all(decorator)
        with pytest.raises(ConfigurationError, match="a proxy knows no SCAN") as raised:
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


def test_a_wrong_password_for_a_proxy_is_no_cache(
    twemproxy: Twemproxy, caplog: pytest.LogCaptureFixture
) -> None:
    url = twemproxy.url.replace(PASSWORD, "wr0ng-one")
    with decorated(url, "wrong_proxy", proxied=True) as decorator:
        assert_predicts_without_cache(decorator)
    assert "wr0ng-one" not in caplog.text


@contextlib.contextmanager
def tls_for_clients_of(server: Server, authority: trustme.CA) -> Iterator[int]:
    """Ends TLS before a server, for clients that show a certificate; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                outside = context.wrap_socket(plain, server_side=True)
            except OSError:  # no certificate, or a wrong one
                plain.close()
                continue
            inside = socket.create_connection(("127.0.0.1", server.port))
            ends.extend((outside, inside))
            for pair in ((outside, inside), (inside, outside)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def issue_to_client(authority: trustme.CA, folder: Path) -> str:
    """Write a client's certificate and key; return the url's parameters for them."""
    folder.mkdir()
    issued = authority.issue_cert("client")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    return f"ssl_certfile={folder / 'cert.pem'}&ssl_keyfile={folder / 'key.pem'}"


def test_a_client_shows_its_certificate(server: Server, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = issue_to_client(authority, tmp_path / "trusted")
    stranger = issue_to_client(trustme.CA(), tmp_path / "stranger")
    with tls_for_clients_of(server, authority) as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with decorated(f"{url}&{trusted}", "trusted") as decorator:
            assert_caches(decorator)
        for refused in (url, f"{url}&{stranger}"):
            with decorated(refused, "refused") as decorator:
                assert_predicts_without_cache(decorator)
