"""Processes: workers share entries, and nothing breaks at a fork."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import redis

from model_cache import RedisCachingDecorator
from tests.models import FunctionModel, charge, person
from tests.servers import Server, running_server
from tests.stored import entries


def answer_in_a_child(decorator: RedisCachingDecorator, results: Any) -> None:
    answers = [decorator.predict(person(age=age)) for age in range(30)]
    results.put((answers, decorator.stats().hits, decorator.cache_key(person())))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_shares_the_entries(server: Server, method: str) -> None:
    decorator = RedisCachingDecorator(
        url=server.url, prefix=f"children-{method}", timeout=5.0, key_secret="x", ttl=100
    )
    decorator.set_model(FunctionModel())
    expected = [decorator.predict(person(age=age)) for age in range(30)]
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    children = [
        context.Process(target=answer_in_a_child, args=(decorator, results)) for _ in range(2)
    ]
    for child in children:
        child.start()
    for _ in children:
        answers, hits, key = results.get(timeout=60)
        assert answers == expected
        assert hits == 30
        assert key == decorator.cache_key(person())
    for child in children:
        child.join()
        assert child.exitcode == 0
    decorator.close()


def test_it_survives_pickle_bound_and_unbound(server: Server) -> None:
    decorator = RedisCachingDecorator(url=server.url, prefix="p", ignored_fields=["sex"])
    again = pickle.loads(pickle.dumps(decorator))
    assert repr(again) == repr(decorator)
    decorator.set_model(FunctionModel())
    decorator.predict(person())
    again = pickle.loads(pickle.dumps(decorator))
    assert again.cache_key(person()) == decorator.cache_key(person())
    assert again.predict(person()) == charge(person())
    assert again.stats().hits == 1


def test_forked_workers_predict_while_the_parent_does(server: Server) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0).set_model(FunctionModel())

    def all_right() -> bool:
        ages = [number % 40 for number in range(400)]
        return all(decorator.predict(person(age=age)) == charge(person(age=age)) for age in ages)

    assert all_right()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os._exit(0 if all_right() else 1)
        children.append(child)
    assert all_right()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4


def run(code: str, *flags: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.parametrize("flags", [("-bb",), ("-OO",), ("-W", "error", "-X", "dev")], ids="".join)
def test_it_predicts_under_a_strict_interpreter(flags: tuple[str, ...]) -> None:
    code = """
        import asyncio
        from model_cache import RedisCachingDecorator, refresh
        from tests.models import FunctionModel, charge, person
        for options in ({}, {"layout": "packed", "expected_entries": 100}):
            decorator = RedisCachingDecorator(url=URL, timeout=5.0, **options)
            decorator.set_model(FunctionModel())
            wrong = sum(decorator.predict(person()) != charge(person()) for _ in range(2))
            with refresh():
                decorator.predict_many([person(age=age) for age in range(5)])
            asyncio.run(decorator.apredict(person()))
            decorator.forget(person())
            decorator.purge()
            print(wrong, decorator.stats().hits, decorator.stats().unavailable)
    """
    with running_server("--requirepass", "s3cret") as server:
        url = f"redis://default:s3cret@127.0.0.1:{server.port}"
        assert run(code.replace("URL", repr(url)), *flags).split() == ["0", "2", "0"] * 2


def test_a_restarted_process_under_another_hash_seed_hits(
    server: Server, client: redis.Redis
) -> None:
    code = f"""
        from model_cache import RedisCachingDecorator
        from tests.models import FunctionModel, person
        decorator = RedisCachingDecorator(url={server.url!r}, timeout=5.0)
        decorator.set_model(FunctionModel())
        decorator.predict(person())
        print(decorator.stats().hits, decorator.cache_key(person()))
    """
    first, second = (run(code, PYTHONHASHSEED=seed).split() for seed in ("1", "2"))
    assert (first[0], second[0]) == ("0", "1")
    assert first[1] == second[1]
    assert len(entries(client)) == 1


def test_the_end_of_a_process_is_not_held_up_by_a_hanging_connect() -> None:
    # A listener whose backlog is full swallows the connect: it never completes, nor fails.
    code = """
        import socket, time
        from model_cache import RedisCachingDecorator
        from tests.models import FunctionModel, person
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        full = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            full.append(one)
        url = "redis://127.0.0.1:%d" % listener.getsockname()[1]
        decorator = RedisCachingDecorator(url=url, timeout=20).set_model(FunctionModel())
        decorator._config.__dict__["timeout"] = 0.1  # the connect's own stays at 20 s
        decorator._predictor._timeout = 0.1
        started = time.monotonic()
        decorator.predict(person())
        print(time.monotonic() - started < 5)
    """
    assert run(code) == "True\n"
