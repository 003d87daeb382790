"""Faults of one server, or of the network in front of it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import redis

from model_cache import RedisCachingDecorator
from tests.faults.load import INPUTS, Load, Row, Run, wait_until
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.servers import Server, free_port, running_server
from tests.signals import signals_every
from tests.stored import entries


@contextlib.contextmanager
def load_on_server(run: Run, *options: str, **decorator: Any) -> Iterator[tuple[Server, Load]]:
    with (
        running_server(*options) as server,
        run.load(RedisCachingDecorator(url=server.url, **decorator)) as load,
    ):
        yield server, load


@contextlib.contextmanager
def load_through_proxy(run: Run, **decorator: Any) -> Iterator[tuple[FaultProxy, Load]]:
    with (
        running_server() as server,
        fault_proxy(server.port) as proxy,
        run.load(RedisCachingDecorator(url=proxy.url, **decorator)) as load,
    ):
        yield proxy, load


def nothing(run: Run) -> None:
    with load_on_server(run) as (_, load):
        run.lasts()
        run.recovers(load)


def refused_port(run: Run) -> None:
    port = free_port()
    decorator = RedisCachingDecorator(host="127.0.0.1", port=port)
    with run.load(decorator, warm=False) as load:
        run.lasts()
        server = Server(port=port)
        try:
            run.recovers(load)
        finally:
            server.stop()


def killed_in_the_middle_of_requests(run: Run) -> None:
    with load_on_server(run) as (server, load):
        server.freeze()  # so that requests are under way when it dies
        time.sleep(0.02)
        server.kill()
        run.lasts()
        server.start()
        run.recovers(load)


def frozen(run: Run) -> None:
    with load_on_server(run) as (server, load):
        server.freeze()
        run.lasts()
        server.thaw()
        run.recovers(load)


def blackholed(run: Run) -> None:
    with load_through_proxy(run) as (proxy, load):
        proxy.blackholes()
        run.lasts()
        proxy.passes()
        run.recovers(load)


def packets_dropped(run: Run) -> None:
    with load_through_proxy(run) as (proxy, load):
        proxy.drops()
        run.lasts()
        proxy.passes()
        run.recovers(load)


def one_second_latency(run: Run) -> None:
    with load_through_proxy(run) as (proxy, load):
        proxy.delays(replies=1.0)
        run.lasts(1.5)
        proxy.passes()
        run.recovers(load)


def latency_near_the_timeout(run: Run) -> None:
    misses_are_slow(run, lambda proxy: proxy.delays(requests=0.04, replies=0.04))


def latency_at_random(run: Run) -> None:
    misses_are_slow(run, lambda proxy: proxy.delays_at_random(0.1))


def latency_with_a_lease(run: Run) -> None:
    misses_are_slow(
        run, lambda proxy: proxy.delays(requests=0.02, replies=0.02), single_flight="fleet"
    )


def misses_are_slow(run: Run, fault: Callable[[FaultProxy], None], **decorator: Any) -> None:
    """Empty the cache over and over, so that entries are read and written while it lasts."""
    with (
        running_server() as server,
        server.client() as client,
        fault_proxy(server.port) as proxy,
        run.load(RedisCachingDecorator(url=proxy.url, **decorator)) as load,
    ):
        fault(proxy)
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            client.flushall()
            time.sleep(0.02)
        proxy.passes()
        run.recovers(load)


def frozen_while_writing_in_the_background(run: Run) -> None:
    with load_on_server(run, write="background") as (server, load), server.client() as client:
        client.flushall()  # so that there is something to write
        server.freeze()
        run.lasts()
        server.thaw()
        run.recovers(load)


def trickled_replies(run: Run) -> None:
    with load_through_proxy(run) as (proxy, load):
        proxy.trickles(0.02)
        run.lasts()
        proxy.passes()
        run.recovers(load)


def cut_in_the_middle_of_a_reply(run: Run) -> None:
    with load_through_proxy(run) as (proxy, load):
        proxy.cuts(30)
        run.lasts()
        proxy.passes()
        run.recovers(load)


def reset_between_calls(run: Run) -> None:
    with load_through_proxy(run) as (proxy, load):
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            time.sleep(0.02)
            proxy.reset()
        run.recovers(load)


def closed_while_idle(run: Run) -> None:
    options = ("--timeout", "1", "--hz", "100")
    # A time-out that a busy machine does not reach: a closed connection must not cost a look-up.
    with load_on_server(run, *options, timeout=5.0) as (server, load):
        with server.client() as client:
            load.pause()
            wait_until(lambda: len(client.client_list()) == 1, "idle connections are closed")
        load.resume()
        run.recovers(load)
        assert load.decorator.stats().unavailable == 0


class Interrupted(BaseException):
    pass


def interrupted_by_a_signal_handler(run: Run) -> None:
    armed = False

    def interrupt(_: int, frame: FrameType | None) -> None:
        if armed and frame is not None and "model_cache" in frame.f_code.co_filename:
            raise Interrupted

    with load_on_server(run) as (_, load):
        tally, end, number, interruptions = load.tally(), time.monotonic() + run.seconds, 0, 0
        with signals_every(0.0007, interrupt):  # in this thread: it predicts, too
            while time.monotonic() < end:
                number += 1
                try:
                    armed = True
                    load.predict(tally, number % len(INPUTS))
                    armed = False
                except Interrupted:
                    armed = False
                    interruptions += 1
        assert interruptions > 10
        run.recovers(load)


class SoftTimeLimitExceeded(Exception):
    """As Celery's, which `except Exception` would take for a failure of Redis."""


def soft_time_limits(run: Run) -> None:
    armed, raised, arrived = False, 0, 0

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal armed, raised
        # What is raised in a finalizer that happens to run is lost.
        inside = frame is not None and frame.f_code.co_name != "close"
        if armed and inside and frame is not None and "/stores/" in frame.f_code.co_filename:
            armed = False
            raised += 1
            raise SoftTimeLimitExceeded

    with load_on_server(run) as (_, load):
        tally, end, number = load.tally(), time.monotonic() + run.seconds, 0
        with signals_every(0.0007, interrupt):  # in this thread: it predicts, too
            while time.monotonic() < end:
                number = (number + 1) % len(INPUTS)
                try:
                    armed = True
                    answer = load.decorator.predict(INPUTS[number])
                    armed = False
                except SoftTimeLimitExceeded:
                    arrived += 1
                else:
                    tally.wrong += answer != load.models[0].answers[number]
        assert arrived == raised > 10
        assert load.decorator.stats().store == "closed"
        run.recovers(load)


def full_memory(run: Run) -> None:
    with load_on_server(run, "--maxmemory-policy", "noeviction") as (server, load):
        with server.client() as client:
            client.config_set("maxmemory", "1")
            since, hits = time.perf_counter(), load.decorator.stats().hits
            run.lasts()
            assert load.is_warm(since)
            assert load.decorator.stats().hits > hits
            # Entries are gone, and none can be written.
            client.delete(*[load.key(number) for number in range(len(INPUTS))])
            run.lasts()
            assert load.decorator.stats().write_failures
            client.config_set("maxmemory", "0")
        run.recovers(load)


def read_only(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))
        since = time.perf_counter()
        run.lasts()
        assert load.is_warm(since)
        client.replicaof("NO", "ONE")
        client.flushall()
        run.recovers(load)


def name_moves(run: Run) -> None:
    with (
        Resolver() as resolver,
        running_server() as old,
        running_server() as new,
        old.client() as client,
    ):
        decorator = RedisCachingDecorator(host="cache.test", port=old.port)
        with run.load(decorator) as load:
            with client.pipeline(transaction=True) as together:
                together.flushall()  # so that each hit is one from the new primary
                together.execute_command("REPLICAOF", "127.0.0.1", free_port())
                together.execute()
            run.lasts()
            resolver.port, since = new.port, time.perf_counter()
            with new.client() as other:
                wait_until(lambda: len(entries(other)) == len(INPUTS), "the new primary has all")
            run.recovers(load)
            run.recovery = time.perf_counter() - since


def loading(run: Run) -> None:
    options = ("--loading-process-events-interval-bytes", "1024")
    with load_on_server(run, *options) as (server, load):
        with server.client() as client:
            client.mset({f"filler:{number}": random.randbytes(1000) for number in range(5000)})
            client.save()
        server.kill()
        server.options = (*options, "--key-load-delay", "10000")  # 50 s, unless it is told to hurry
        server.start()
        with server.client() as client:
            assert is_loading(client)
            run.lasts()
            assert is_loading(client)
            client.config_set("key-load-delay", 0)
            wait_until(lambda: not is_loading(client), "the data are loaded")
        run.recovers(load)


def is_loading(client: redis.Redis) -> bool:
    information: Any = client.info("persistence")
    return bool(information["loading"] or information.get("async_loading"))


def wrong_password(run: Run) -> None:
    with running_server("--requirepass", "right") as server:
        decorator = RedisCachingDecorator(url=server.url, password="later")
        with run.load(decorator, warm=False) as load:
            run.lasts()
            with server.client(password="right") as client:
                client.config_set("requirepass", "later")
            run.recovers(load)


def user_revoked(run: Run) -> None:
    with running_server() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+get", "+set")
        decorator = RedisCachingDecorator(url=server.url, username="app", password="pw")
        with run.load(decorator) as load:
            client.execute_command("ACL", "DELUSER", "app")
            run.lasts()
            client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+get", "+set")
            run.recovers(load)


def rights_revoked(run: Run) -> None:
    with running_server() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+get", "+set")
        decorator = RedisCachingDecorator(url=server.url, username="app", password="pw")
        with run.load(decorator) as load:
            client.execute_command("ACL", "SETUSER", "app", "-set")
            since = time.perf_counter()
            run.lasts(0.5)
            assert load.is_warm(since)
            client.execute_command("ACL", "SETUSER", "app", "-get")
            run.lasts(0.5)
            client.execute_command("ACL", "SETUSER", "app", "+get", "+set")
            run.recovers(load)


def too_many_clients(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        client.config_set("maxclients", "1")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        run.lasts()
        client.config_set("maxclients", "1000")
        run.recovers(load)


def pool_exhausted(run: Run) -> None:
    with running_server() as server, fault_proxy(server.port) as proxy:
        decorator = RedisCachingDecorator(url=proxy.url, max_connections=2)
        with run.load(decorator, threads=16) as load:
            proxy.delays(replies=0.03)
            run.lasts()
            proxy.passes()
            run.recovers(load)


def of_another_type(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        keys = [load.key(number) for number in range(len(INPUTS))]
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            pipeline = client.pipeline()
            for key in random.sample(keys, 5):
                pipeline.delete(key)
                pipeline.rpush(key, "no", "entry")
            pipeline.execute()
            time.sleep(0.002)
        run.recovers(load)


def undecodable(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        keys = [load.key(number) for number in range(len(INPUTS))]
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            for key in random.sample(keys, 5):
                client.set(key, random.choice((b"", b"{", b"null", b"\xc1\x01\x01", b"\xff" * 99)))
            time.sleep(0.002)
        assert load.decorator.stats().undecodable
        run.recovers(load)


def bits_flipped_in_entries(run: Run) -> None:
    with load_on_server(run, integrity=True) as (server, load), server.client() as client:
        keys = [load.key(number) for number in range(len(INPUTS))]
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            for key in random.sample(keys, 5):
                bit = random.randrange(8 * client.strlen(key) or 1)
                client.setbit(key, bit, 1 - int(client.getbit(key, bit)))
            time.sleep(0.002)
        assert load.decorator.stats().undecodable
        run.recovers(load)


def bits_flipped_in_replies(run: Run) -> None:
    with load_through_proxy(run, integrity=True) as (proxy, load):
        proxy.flips(0.3)
        run.lasts(2)
        proxy.passes()
        run.recovers(load)


def flushed(run: Run) -> None:
    with load_on_server(run) as (server, load), server.client() as client:
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            client.flushall()
            time.sleep(0.005)
        run.recovers(load)


class Resolver:
    """Stands in for `socket.getaddrinfo`: a name's server that fails, or that hangs."""

    def __init__(self) -> None:
        self._real = socket.getaddrinfo
        self.fails = False
        self.port: int | None = None  # where the name leads to, if not to the port asked for
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, host: Any, port: Any, *details: Any, **more: Any) -> Any:
        if host != "cache.test":
            return self._real(host, port, *details, **more)
        if self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        self.answers.wait()
        return self._real("127.0.0.1", self.port or port, *details, **more)

    def __enter__(self) -> Resolver:
        socket.getaddrinfo = self
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        socket.getaddrinfo = self._real


def name_without_address(run: Run) -> None:
    with Resolver() as resolver, running_server() as server, server.client() as client:
        decorator = RedisCachingDecorator(host="cache.test", port=server.port)
        with run.load(decorator) as load:
            resolver.fails = True
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            run.lasts()
            resolver.fails = False
            run.recovers(load)


def name_server_hangs(run: Run) -> None:
    with Resolver() as resolver, running_server() as server, server.client() as client:
        decorator = RedisCachingDecorator(host="cache.test", port=server.port)
        with run.load(decorator) as load:
            resolver.answers.clear()
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            run.lasts()
            resolver.answers.set()
            run.recovers(load)


def models_changed_and_purged(run: Run) -> None:
    with load_on_server(run) as (_, load):
        end, number = time.monotonic() + run.seconds, 0
        while time.monotonic() < end:
            number += 1
            load.change_model(load.make_model(number % 3))
            time.sleep(0.01)
            load.decorator.purge()
        run.recovers(load)


ONE = "one server"
ROWS = (
    Row("none, for comparison", ONE, nothing),
    Row("refused port", ONE, refused_port),
    Row("kill -9 in the middle of requests", ONE, killed_in_the_middle_of_requests),
    Row("SIGSTOP, then SIGCONT", ONE, frozen),
    Row("SIGSTOP, write background", ONE, frozen_while_writing_in_the_background),
    Row("blackholed host", ONE, blackholed),
    Row("packets dropped", ONE, packets_dropped),
    Row("one second of latency", ONE, one_second_latency),
    Row("latency near the time-out", ONE, latency_near_the_timeout),
    Row("latency up to the time-out, at random", ONE, latency_at_random),
    Row("latency, single_flight fleet", ONE, latency_with_a_lease),
    Row("replies trickle byte by byte", ONE, trickled_replies),
    Row("replies cut in the middle", ONE, cut_in_the_middle_of_a_reply),
    Row("connections reset between calls", ONE, reset_between_calls),
    Row("idle connections closed by the server", ONE, closed_while_idle),
    Row("a signal handler raises mid-request", ONE, interrupted_by_a_signal_handler, bounded=False),
    Row("soft time limits, an Exception each", ONE, soft_time_limits, bounded=False),
    Row("memory full, noeviction", ONE, full_memory),
    Row("READONLY, as after a failover", ONE, read_only),
    Row("READONLY, then the name moves", ONE, name_moves),
    Row("LOADING", ONE, loading),
    Row("wrong password", ONE, wrong_password),
    Row("user deleted", ONE, user_revoked),
    Row("rights revoked", ONE, rights_revoked),
    Row("max clients reached", ONE, too_many_clients),
    Row("pool exhausted by threads", ONE, pool_exhausted, threads=16, bounded=False),
    Row("keys of another type", ONE, of_another_type),
    Row("undecodable entries", ONE, undecodable),
    Row("bits flipped in entries, integrity", ONE, bits_flipped_in_entries),
    Row("bits flipped in replies, integrity", ONE, bits_flipped_in_replies),
    Row("FLUSHALL over and over", ONE, flushed),
    Row("the name has no address", ONE, name_without_address),
    Row("the name server hangs", ONE, name_server_hangs),
    Row("set_model and purge", ONE, models_changed_and_purged),
)
