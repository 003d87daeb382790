"""One connection for all tasks of a loop: each gets its own reply, or an error in its own time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import pytest
import redis
import trustme

from model_cache.errors import StoreUnavailableError
from model_cache.protocols import AsyncStore
from model_cache.stores.dialing import Dialer
from model_cache.stores.server import AsyncRedisStore, RedisStore
from model_cache.stores.url import Endpoint, parse_url
from tests.faults.proxy import fault_proxy
from tests.loops import MAKERS, run_in
from tests.servers import Server, free_port, running_server
from tests.stores.opened import TIMEOUT, scripted
from tests.stores.test_interruptions import Interrupted, interrupted_at
from tests.tls import tls_in_front_of
from tests.waiting import poll

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

Loop: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
Test: TypeAlias = Callable[[AsyncRedisStore], Coroutine[Any, Any, None]]


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def loop(request: pytest.FixtureRequest) -> Loop:
    make: Loop = request.param
    return make


def store_at(url: str, **options: Any) -> AsyncRedisStore:
    return store_on(parse_url("url", url), **options)


def store_on(endpoint: Endpoint, **options: Any) -> AsyncRedisStore:
    return AsyncRedisStore(RedisStore(endpoint, **options))


def check(
    make: Callable[[], asyncio.AbstractEventLoop], store: AsyncRedisStore, test: Test
) -> None:
    async def main() -> None:
        try:
            async with asyncio.timeout(60):
                await test(store)
        finally:
            store.close()

    run_in(make, main())


async def contract(store: AsyncStore) -> None:
    """Many at once; `test_contract` covers what a single task may expect."""
    entries = [(b"many/%d" % number, b"entry %d" % number, 60_000) for number in range(300)]
    await store.set_many(entries, TIMEOUT)
    answers = await asyncio.gather(*(store.get(key, TIMEOUT) for key, _, _ in entries))
    assert answers == [entry for _, entry, _ in entries]
    large = [(b"large/%d" % number, bytes([number]) * 500_000) for number in range(20)]
    await asyncio.gather(*(store.set(key, entry, None, TIMEOUT) for key, entry in large))
    got = await asyncio.gather(*(store.get(key, TIMEOUT) for key, _ in large))
    assert got == [entry for _, entry in large]


def test_what_is_set_is_got(server: Server, loop: Any) -> None:
    check(loop, store_at(server.url), contract)


def test_what_is_set_is_got_through_tls(server: Server, loop: Any, tmp_path: Any) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with tls_in_front_of(server, authority, "localhost") as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/ca.pem"
        check(loop, store_at(url), contract)


def test_what_is_set_is_got_through_a_unix_socket_after_a_login(loop: Any, tmp_path: Any) -> None:
    with running_server("--unixsocket", f"{tmp_path}/redis", "--requirepass", "secret"):
        check(loop, store_at(f"unix://:secret@{tmp_path}/redis?db=1"), contract)


def test_each_task_gets_its_own_reply_while_others_are_cancelled(
    server: Server, client: redis.Redis, loop: Any
) -> None:
    for number in range(100):
        client.set(f"key/{number}", f"entry {number}")

    async def storm(store: AsyncRedisStore) -> None:
        draw, right = random.Random(3), 0

        async def ask(number: int) -> None:
            nonlocal right
            assert await store.get(b"key/%d" % number, TIMEOUT) == b"entry %d" % number
            right += 1

        for _ in range(100):
            tasks = [asyncio.create_task(ask(draw.randrange(100))) for _ in range(50)]
            await asyncio.sleep(draw.choice((0, 0, 0.0002, 0.001)))
            for task in draw.sample(tasks, 30):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(
                each is None or isinstance(each, asyncio.CancelledError) for each in results
            ), results
        assert right >= 2000

    before = int(client.info("stats")["total_connections_received"])
    check(loop, store_at(server.url), storm)
    connections = int(client.info("stats")["total_connections_received"])
    assert connections - before < 1000


def test_a_caller_that_is_too_late_takes_nothing_from_the_others(
    server: Server, client: redis.Redis, loop: Any
) -> None:
    for number in range(10):
        client.set(f"key/{number}", f"entry {number}")
    with fault_proxy(server.port) as proxy:

        async def late(store: AsyncRedisStore) -> None:
            await store.get(b"key/0", TIMEOUT)
            proxy.delays(replies=0.2)
            patient = [asyncio.ensure_future(store.get(b"key/1", TIMEOUT)) for _ in range(3)]
            await asyncio.sleep(0)
            hasty = [asyncio.ensure_future(store.get(b"key/2", 0.05)) for _ in range(3)]
            patient += [asyncio.ensure_future(store.get(b"key/1", TIMEOUT)) for _ in range(3)]
            for task in hasty:
                with pytest.raises(StoreUnavailableError) as raised:
                    await task
                assert raised.value.kind == "timeout"
            assert await asyncio.gather(*patient) == [b"entry 1"] * 6
            proxy.passes()
            for number in range(10):
                assert await store.get(b"key/%d" % number, TIMEOUT) == b"entry %d" % number

        check(loop, store_at(proxy.url), late)


def test_a_connection_that_fell_silent_is_replaced(
    server: Server, client: redis.Redis, loop: Any
) -> None:
    client.set("key", "entry")
    with fault_proxy(server.port) as proxy:

        async def silent(store: AsyncRedisStore) -> None:
            assert await store.get(b"key", TIMEOUT) == b"entry"
            proxy.drops()
            with pytest.raises(StoreUnavailableError):
                await store.get(b"key", 0.05)
            proxy.passes()
            assert await store.get(b"key", TIMEOUT) == b"entry"

        check(loop, store_at(proxy.url), silent)


def test_connections_cut_in_the_middle_of_replies_are_replaced(
    server: Server, client: redis.Redis, loop: Any
) -> None:
    for number in range(20):
        client.set(f"key/{number}", f"entry {number}")
    with fault_proxy(server.port) as proxy:

        async def cut(store: AsyncRedisStore) -> None:
            proxy.cuts(200)
            failed = 0
            for _ in range(30):
                answers = await asyncio.gather(
                    *(store.get(b"key/%d" % number, TIMEOUT) for number in range(20)),
                    return_exceptions=True,
                )
                for number, answer in enumerate(answers):
                    if isinstance(answer, StoreUnavailableError):
                        failed += 1
                    else:
                        assert answer == b"entry %d" % number
            assert failed
            proxy.passes()
            assert await store.get(b"key/1", TIMEOUT) == b"entry 1"

        check(loop, store_at(proxy.url), cut)


def test_a_connection_that_the_server_closed_costs_no_look_up(
    server: Server, client: redis.Redis, loop: Any
) -> None:
    client.set("key", "entry")

    async def closed(store: AsyncRedisStore) -> None:
        for _ in range(10):
            asked = [asyncio.ensure_future(store.get(b"key", TIMEOUT)) for _ in range(20)]
            assert await asyncio.gather(*asked) == [b"entry"] * 20
            client.client_kill_filter(_type="normal", skipme=True)

    check(loop, store_at(server.url), closed)


def test_a_refused_connect_fails_all_that_wait_and_the_next_one_tries_again(loop: Any) -> None:
    port = free_port()

    async def refused(store: AsyncRedisStore) -> None:
        asked = [store.get(b"key", TIMEOUT) for _ in range(20)]
        failures = await asyncio.gather(*asked, return_exceptions=True)
        assert {getattr(each, "kind", each) for each in failures} == {"connection"}
        assert len(set(map(id, failures))) == 20
        server = await asyncio.to_thread(Server, port=port)
        try:
            assert await store.get(b"key", TIMEOUT) is None
        finally:
            server.stop()

    check(loop, store_at(f"redis://127.0.0.1:{port}"), refused)


@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
def test_a_connection_is_opened_while_the_loop_never_rests(server: Server, loop: Any) -> None:
    def look_up(address: tuple[str, int]) -> tuple[str, int]:
        os.sched_setaffinity(0, CORES[1:2])  # there, the GIL is gone before this thread wakes
        for _ in range(100):  # as a name server's client: it waits, and then needs the GIL again
            time.sleep(0.0001)
        return address

    async def never_rests(store: AsyncRedisStore) -> None:
        asked, turns = asyncio.ensure_future(store.get(b"key", 60.0)), 0
        while not asked.done():
            await asyncio.sleep(0)
            for _ in range(40):
                sum(range(1000))
            turns += 1
        assert await asked is None
        assert turns < 2000

    dialer = Dialer(None, TIMEOUT, address_map=look_up)
    os.sched_setaffinity(0, CORES[:1])
    try:
        check(loop, store_at(server.url, dialer=dialer), never_rests)
    finally:
        os.sched_setaffinity(0, CORES)


def test_a_connection_grows_old_without_a_gap(
    server: Server, client: redis.Redis, loop: Any
) -> None:
    client.set("key", "entry")

    async def ages(store: AsyncRedisStore) -> None:
        first = await number_of_connection()
        async with asyncio.timeout(30):
            while await number_of_connection() == first:
                answers = await asyncio.gather(*(store.get(b"key", TIMEOUT) for _ in range(20)))
                assert answers == [b"entry"] * 20

    async def number_of_connection() -> int:
        await store.get(b"key", TIMEOUT)
        me = client.client_id()
        return max(int(each["id"]) for each in client.client_list() if int(each["id"]) != me)

    store = store_at(server.url, max_connection_age=0.05)
    check(loop, store, ages)


@contextlib.contextmanager
def server_that(answers: Callable[[socket.socket, bytes], None]) -> Iterator[AsyncRedisStore]:
    """A store at a scripted server."""
    with scripted(answers) as endpoint:
        yield store_on(endpoint)


def test_a_reply_that_nobody_asked_for_is_nobodys(loop: Any) -> None:
    begun = ended = 0

    def answer(connection: socket.socket, _: bytes) -> None:
        nonlocal begun, ended
        begun += 1
        connection.sendall(b"$4\r\nmine\r\n")
        time.sleep(0.001 * (begun % 2))  # in one piece with it, or a little later
        with contextlib.suppress(OSError):  # of a caller that has given up
            connection.sendall(b"$6\r\nothers\r\n")
        ended += 1

    async def asks(store: AsyncRedisStore) -> None:
        for _ in range(20):
            with contextlib.suppress(StoreUnavailableError):
                assert await store.get(b"key", TIMEOUT) == b"mine"
            poll(lambda: begun == ended, 60)  # the loop has not read it yet

    with server_that(answer) as store:
        check(loop, store, asks)


def test_a_loop_that_was_held_up_still_reads_what_has_come(server: Server, loop: Any) -> None:
    async def held_up(store: AsyncRedisStore) -> None:
        await store.set(b"key", b"entry", None, TIMEOUT)
        for _ in range(5):
            asked = asyncio.ensure_future(store.get(b"key", 0.02))
            await asyncio.sleep(0)
            threading.Event().wait(0.1)  # somebody's blocking call in the loop
            assert await asked == b"entry"

    check(loop, store_at(server.url), held_up)


def test_a_forked_child_has_connections_of_its_own(server: Server, client: redis.Redis) -> None:
    for number in range(100):
        client.set(f"key/{number}", f"entry {number}")
    store = store_at(server.url)

    async def ask() -> bool:
        answers = await asyncio.gather(*(store.get(b"key/%d" % n, TIMEOUT) for n in range(100)))
        return answers == [b"entry %d" % number for number in range(100)]

    async def main() -> None:
        assert await ask()
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                asyncio._set_running_loop(None)
                right = False
                with contextlib.suppress(BaseException):
                    right = asyncio.run(ask())
                os._exit(0 if right else 1)
            children.append(child)
        for _ in range(20):
            assert await ask()
        for child in children:
            assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
        assert await ask()
        store.close()

    asyncio.run(main())


def test_a_loop_that_was_closed_leaves_no_warning_and_no_connection(
    server: Server, client: redis.Redis, loop: Any
) -> None:
    store = store_at(server.url)
    for _ in range(3):
        made = loop()
        tasks = [made.create_task(store.get(b"key", TIMEOUT)) for _ in range(50)]
        made.run_until_complete(asyncio.sleep(0.001))
        for task in tasks:
            task._log_destroy_pending = False
        made.close()
        del tasks, task
    gc.collect()
    before = len(client.client_list())

    async def last(store: AsyncRedisStore) -> None:
        assert await store.get(b"key", TIMEOUT) is None
        assert len(store._links._links) == 1

    check(loop, store, last)
    assert len(client.client_list()) <= before


# Of coroutines that were never begun, and connections that were never finished.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_at_any_line_gives_no_caller_the_reply_of_another(
    server: Server, client: redis.Redis
) -> None:
    for number in range(3):
        client.set(f"key/{number}", f"entry {number}")
    expected = [b"entry %d" % number for number in range(3)]
    store, number, interrupted = store_at(server.url), 0, 0

    async def ask(timeout: float) -> list[Any]:
        asked = [store.get(b"key/%d" % number, timeout) for number in range(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda *_: None)  # of callbacks
        while True:
            number += 1
            if number % 2:
                store.close()  # so that it connects anew
                runner.run(asyncio.sleep(0))
            answers: list[Any] = []
            with interrupted_at((number + 1) // 2) as lines, contextlib.suppress(Interrupted):
                answers = runner.run(ask(0.02))
            for answer, wanted in zip(answers, expected, strict=False):
                assert answer == wanted or isinstance(answer, StoreUnavailableError | Interrupted)
            interrupted += answers != expected
            for _ in range(100):  # a connection that was being made may be lost
                answers = runner.run(ask(0.02))
                if answers == expected:
                    break
                for answer, wanted in zip(answers, expected, strict=True):  # some may be late
                    assert answer == wanted or isinstance(answer, StoreUnavailableError)
            assert answers == expected
            if lines[0] < number // 2 - 1:
                break
        store.close()
        runner.run(asyncio.sleep(0))
    assert interrupted > 20
