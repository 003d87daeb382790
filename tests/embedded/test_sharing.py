"""One server for a process and its children, and another when it is gone."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

from model_cache.embedded import embedded_redis
from tests.embedded.processes import (
    OWNER,
    VARIABLE,
    connected,
    eventually,
    folder_of,
    is_alive,
    line,
    output_of,
    process_of,
    python,
)

# Who shares it.


def test_threads_that_ask_at_once_share_one_server() -> None:
    urls = output_of(
        """
from concurrent.futures import ThreadPoolExecutor
from model_cache.embedded import embedded_url
with ThreadPoolExecutor(8) as pool:
    print(*pool.map(lambda _: embedded_url(), range(8)), sep="\\n")
"""
    )
    assert len(urls) == 8
    assert len(set(urls)) == 1


def test_a_forked_child_shares_the_server_and_its_exit_leaves_it_alone() -> None:
    before, child, after = output_of(
        """
import os, sys
from model_cache.embedded import embedded_url
print(embedded_url(), flush=True)
if os.fork() == 0:
    print(embedded_url(), flush=True)
    sys.exit(0)
os.wait()
print(embedded_url())
"""
    )
    assert before == child == after


def test_a_forked_child_that_leaves_the_block_leaves_the_server_alone() -> None:
    output_of(
        """
import os, socket, sys
from model_cache.embedded import embedded_redis
with embedded_redis() as url:
    child = os.fork()
    if child == 0:
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(url.removeprefix("unix://"))
"""
    )


def test_a_forked_child_can_have_a_server_of_its_own() -> None:
    inherited, own = output_of(
        """
import os, sys
from model_cache.embedded import embedded_redis
with embedded_redis() as inherited:
    if os.fork() == 0:
        with embedded_redis() as own:
            print(inherited, own, sep="\\n", flush=True)
        sys.exit(0)
    assert os.wait()[1] == 0
"""
    )
    assert inherited != own
    assert not Path(own.removeprefix("unix://")).parent.exists()


def test_a_forked_child_that_outlives_a_killed_owner_does_not_keep_the_server_alive() -> None:
    fork = "import os\nif child := os.fork(): print(child, flush=True)\nsys.stdin"
    with python(OWNER.replace("sys.stdin", fork)) as owner:
        url, child = line(owner), int(line(owner))
        server, folder = process_of(url), folder_of(url)
        owner.kill()
        assert eventually(lambda: not is_alive(server))
        assert eventually(lambda: not folder.exists())
        assert is_alive(child)


def test_a_spawned_child_shares_the_server_through_the_environment() -> None:
    own, child = output_of(
        """
import subprocess, sys
from model_cache.embedded import embedded_url
print(embedded_url(), flush=True)
ask = "from model_cache.embedded import embedded_url; print(embedded_url())"
subprocess.run([sys.executable, "-c", ask], check=True)
assert embedded_url()
"""
    )
    assert own == child


@pytest.mark.parametrize(
    "stale",
    [
        "unix:///nowhere/redis.sock",
        f"unix:///{'long' * 100}",
        "redis://127.0.0.1:port",
        "nonsense",
    ],
)
def test_a_stale_environment_leads_to_a_new_server(stale: str) -> None:
    with python(OWNER, **{VARIABLE: stale}) as owner:
        url = line(owner)
        assert url != stale
        with connected(url) as client:
            assert client.ping()
        owner.communicate(timeout=10)


def test_a_url_that_this_library_would_not_have_set_is_not_trusted() -> None:
    with embedded_redis(tcp=True) as url, python(OWNER, **{VARIABLE: url}) as owner:
        assert line(owner).startswith("unix://")
        owner.communicate(timeout=10)


def test_a_listener_that_is_not_a_redis_is_not_trusted(temp_folder: Path) -> None:
    path = temp_folder / "s"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with python(OWNER, **{VARIABLE: f"unix://{quote(str(path))}"}) as owner:
            url = line(owner)
            assert url.endswith("/redis.sock")
            owner.communicate(timeout=10)
    path.unlink()


def test_a_server_that_was_killed_is_replaced_at_the_next_call() -> None:
    with python(
        """
import sys
from model_cache.embedded import embedded_url
for _ in range(3):
    print(embedded_url(), flush=True)
    sys.stdin.readline()
"""
    ) as owner:
        assert owner.stdin is not None
        first = line(owner)
        old_folder = folder_of(first)
        os.kill(process_of(first), signal.SIGKILL)
        print(file=owner.stdin, flush=True)
        second = line(owner)
        assert second != first
        assert not old_folder.exists()
        print(file=owner.stdin, flush=True)
        assert line(owner) == second
        new_folder = folder_of(second)
        owner.communicate("\n", timeout=10)
        assert not new_folder.exists()


def test_an_emptied_environment_does_not_cost_the_owner_its_server() -> None:
    before, after = output_of(
        """
import os
from model_cache.embedded import embedded_url
print(embedded_url())
os.environ.clear()
print(embedded_url())
"""
    )
    assert before == after
