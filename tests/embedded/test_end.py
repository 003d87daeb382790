"""The embedded server and its folder are gone when their owner ends, in whatever way."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
import redis

from model_cache.embedded import embedded_redis, embedded_server
from tests.embedded.processes import (
    OWNER,
    both_transports,
    connected,
    eventually,
    folder_of,
    installed_binary,
    is_alive,
    line,
    output_of,
    process_of,
    put_on_path,
    python,
    supervisor_of,
)

# When it ends.


@both_transports
def test_after_the_block_the_processes_and_the_folder_are_gone(tcp: bool) -> None:
    with embedded_redis(tcp=tcp) as url:
        server, folder = process_of(url), folder_of(url)
        supervisor = supervisor_of(server)
        assert is_alive(supervisor)
    assert not is_alive(server)
    assert not is_alive(supervisor)
    assert not folder.exists()


@both_transports
def test_a_server_that_ends_by_itself_says_why(tcp: bool) -> None:
    with embedded_server(tcp=tcp) as server:
        with connected(server.url) as client, contextlib.suppress(redis.ConnectionError):
            client.shutdown(nosave=True)
        reason = server.wait_until_end()
    assert "ended with status 0\n" in reason
    assert "User requested shutdown" in reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the server")
def test_a_server_whose_supervisor_is_killed_has_ended() -> None:
    with embedded_server() as server:
        os.kill(supervisor_of(process_of(server.url)), signal.SIGKILL)
        assert server.wait_until_end() == "its supervisor ended with status -9"


def test_an_exception_in_the_block_ends_the_server_and_passes() -> None:
    folders = []

    def use() -> None:
        with embedded_redis() as url:
            folders.append(folder_of(url))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert not folders[0].exists()


def test_a_frozen_server_does_not_hold_up_the_end_of_the_block() -> None:
    with embedded_redis() as url:
        server, folder = process_of(url), folder_of(url)
        os.kill(server, signal.SIGSTOP)
    assert not is_alive(server)
    assert not folder.exists()


def test_a_process_that_exits_leaves_nothing_behind() -> None:
    (url,) = output_of(OWNER)
    assert not Path(url.removeprefix("unix://")).parent.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_killed_owner_takes_the_server_and_its_folder_with_it(how: signal.Signals) -> None:
    with python(OWNER) as owner:
        url = line(owner)
        server, folder = process_of(url), folder_of(url)
        owner.send_signal(how)
        assert eventually(lambda: not is_alive(server))
        assert eventually(lambda: not folder.exists())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGALRM"])
def test_a_signal_to_the_supervisor_ends_the_server_and_removes_its_folder(name: str) -> None:
    with embedded_redis() as url:
        server, folder = process_of(url), folder_of(url)
        os.kill(supervisor_of(server), getattr(signal, name))
        assert eventually(lambda: not is_alive(server))
        assert eventually(lambda: not folder.exists())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the server")
def test_a_killed_supervisor_takes_the_server_with_it_and_the_owner_removes_the_folder() -> None:
    with embedded_redis() as url:
        server, folder = process_of(url), folder_of(url)
        os.kill(supervisor_of(server), signal.SIGKILL)
        assert eventually(lambda: not is_alive(server))
    assert not folder.exists()


@both_transports
def test_a_server_that_outlives_its_killed_supervisor_is_shut_down_by_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temp_folder: Path, tcp: bool
) -> None:
    # As without the help of Linux: the kernel kills the script, which is not the server.
    put_on_path(tmp_path, monkeypatch, f'#!/bin/sh\n{installed_binary()} "$@" &\nwait\n')
    with embedded_redis(tcp=tcp) as url:
        server = process_of(url)
        os.kill(supervisor_of(server), signal.SIGKILL)
        assert is_alive(server)
    assert eventually(lambda: not is_alive(server))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the server")
def test_a_start_sweeps_what_killed_owners_and_supervisors_left_and_nothing_else(
    temp_folder: Path,
) -> None:
    kept = [temp_folder / f"model-cache-{name}" for name in ("notes", "other")]
    for folder in kept:
        folder.mkdir()
    (kept[1] / "server.conf").write_bytes(b"\xff\n")
    with python(OWNER, TMPDIR=str(temp_folder)) as owner, embedded_redis() as in_use:
        url = line(owner)
        server, left = process_of(url), folder_of(url)
        os.kill(supervisor_of(server), signal.SIGKILL)
        owner.kill()
        assert eventually(lambda: not is_alive(server))
        assert left.exists()
        for folder in (*kept, left, folder_of(in_use)):
            os.utime(folder, (1, 1))
        with embedded_redis():
            assert eventually(lambda: not left.exists())
        assert folder_of(in_use).exists()
    for folder in kept:
        shutil.rmtree(folder)  # which raises if it is not there


def test_an_import_registers_nothing() -> None:
    output_of(
        """
import atexit, os
import redis, pydantic, ml_base.ml_model, multiprocessing.util, msgpack, snappy, logging
forks = []
os.register_at_fork = lambda **hooks: forks.append(hooks)
handlers = atexit._ncallbacks()
import model_cache
assert not [hooks for hooks in forks if "model_cache" in str(hooks)], forks
assert atexit._ncallbacks() == handlers
"""
    )


def test_a_server_that_dies_by_itself_leaves_no_folder() -> None:
    with embedded_redis() as url:
        server, folder = process_of(url), folder_of(url)
        os.kill(server, signal.SIGKILL)
        assert eventually(lambda: not folder.exists())


def test_a_server_outlives_the_thread_that_started_it() -> None:
    with contextlib.ExitStack() as stack:
        urls: list[str] = []
        thread = threading.Thread(target=lambda: urls.append(stack.enter_context(embedded_redis())))
        thread.start()
        thread.join()
        # The kernel's thread ends a little later than Python's.
        assert eventually(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists())
        with connected(urls[0]) as client:
            assert client.ping()


def test_an_owner_without_standard_streams_may_print_into_the_pipe() -> None:
    output_of(
        """
import os
from model_cache.embedded import embedded_url
os.close(0)
os.close(1)
url = embedded_url()
for _ in range(100):
    os.write(1, b"a line that somebody prints")
    assert embedded_url() == url
"""
    )
