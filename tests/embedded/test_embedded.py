"""The embedded server is empty, private, and in memory only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import redis

from model_cache.embedded import embedded_redis
from tests.embedded.processes import (
    both_transports,
    connected,
    folder_of,
    process_of,
    supervisor_of,
)

# What the server is.


@both_transports
def test_the_url_leads_redis_py_to_an_empty_server(tcp: bool) -> None:
    with embedded_redis(tcp=tcp) as url, connected(url) as client:
        assert url.startswith("redis://default:" if tcp else "unix:///")
        assert client.dbsize() == 0
        client.set("key", b"value")
        assert client.get("key") == b"value"


@both_transports
def test_each_block_has_a_server_of_its_own(tcp: bool) -> None:
    with embedded_redis(tcp=tcp) as one, embedded_redis(tcp=tcp) as other:
        assert one != other
        assert process_of(one) != process_of(other)


@both_transports
def test_nothing_is_stored_on_disk(tcp: bool) -> None:
    with embedded_redis(tcp=tcp) as url, connected(url) as client:
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}


@both_transports
def test_only_this_user_can_enter_the_folder_or_read_the_configuration(tcp: bool) -> None:
    with embedded_redis(tcp=tcp) as url:
        folder = folder_of(url)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "server.conf").stat().st_mode & 0o777 == 0o600


def test_the_unix_server_listens_on_no_port() -> None:
    with embedded_redis() as url, connected(url) as client:
        assert client.config_get("port") == {"port": "0"}


def test_the_tcp_server_asks_for_its_password() -> None:
    with embedded_redis(tcp=True) as url:
        bare = f"redis://{url.rpartition('@')[2]}"
        with connected(bare) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_redis_cli_can_log_in_with_the_url() -> None:
    with embedded_redis(tcp=True) as url:
        # redis-cli always sends both parts of the login, even an empty name.
        username, _, password = url.removeprefix("redis://").partition("@")[0].partition(":")
        with connected(url) as client:
            assert client.execute_command(  # type: ignore[no-untyped-call]
                "AUTH", username, password
            ) in (True, "OK")


def test_the_tcp_server_listens_on_the_loopback_address_only() -> None:
    with embedded_redis(tcp=True) as url, connected(url) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps to look with")
def test_the_password_is_on_no_command_line() -> None:
    with embedded_redis(tcp=True) as url:
        password = url.partition("redis://default:")[2].partition("@")[0]
        server = process_of(url)
        shown = subprocess.run(
            ["ps", "-o", "args=", "-p", f"{server},{supervisor_of(server)}"],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        assert len(shown.splitlines()) == 2
        assert password not in shown


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server() -> None:
    with embedded_redis() as url:
        assert os.getsid(process_of(url)) != os.getsid(0)


# Where it is.


def test_any_name_of_the_temp_folder_will_do(temp_folder: Path) -> None:
    with embedded_redis() as url, connected(url) as client:
        assert client.ping()
        assert folder_of(url).parent.resolve() == temp_folder.resolve()


def test_a_temp_folder_too_deep_for_a_socket_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with embedded_redis() as url, connected(url) as client:
        assert client.ping()
        assert list(deep.iterdir()) == []
