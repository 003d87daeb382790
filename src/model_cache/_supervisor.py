"""Runs a server for as long as its owner lives, then removes the server and its folder.

It is a script, started by path, and knows nothing of this package. Its stdin is a pipe that
the owner holds open and never writes to: the end of that pipe means that the owner has closed
it, has exited, or was killed, by whatever signal. Its stdout is where the owner reads why the
server ended, when it ended by itself.

    python -I -S _supervisor.py BINARY FOLDER

FOLDER holds `server.conf` and everything that the server writes.
"""

# The owner waits for this script to start: `subprocess` and `shutil` would double that time.
import contextlib
import os
import select
import signal
import sys

_OWNER = 0
_LOG_TAIL_BYTES = 2000


def main(binary: str, folder: str) -> int:
    """Serve until the owner is gone (0) or the server has ended by itself (1)."""
    # A supervisor that just died of SIGTERM would leave its server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return _serve(binary, folder)
    except OSError as error:
        _report(f"{binary}: {error}")
        return 1
    finally:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _serve(binary: str, folder: str) -> int:
    log = os.path.join(folder, "server.log")
    server, server_end = _start(binary, os.path.join(folder, "server.conf"), log)
    ended_by_itself = False
    try:
        ended_by_itself = _server_ends_first(server_end)
    finally:
        status = _kill(server)
    if ended_by_itself:
        _report(f"{binary} ended with status {status}\n{_tail(log)}")
    return int(ended_by_itself)


def _start(binary: str, config: str, log: str) -> tuple[int, int]:
    """Return the server's process id, and a descriptor that ends when the server does."""
    server_end, held_by_server = os.pipe()
    os.set_inheritable(held_by_server, True)
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # A group of its own: the server may be a wrapper script, or have forked to save.
    server = os.posix_spawn(binary, [binary, config], os.environ, file_actions=streams, setpgroup=0)
    os.close(held_by_server)
    return server, server_end


def _server_ends_first(server_end: int) -> bool:
    while True:
        readable, _, _ = select.select([_OWNER, server_end], [], [])
        # Bytes are no end: an owner that had closed its stdout may print into the pipe.
        if _OWNER in readable and not os.read(_OWNER, 4096):
            return False
        if server_end in readable:
            return True


def _kill(server: int) -> int:
    # It may have ended; macOS says "not permitted" of a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server, signal.SIGKILL)
    try:
        _, status = os.waitpid(server, 0)
    except ChildProcessError:
        return 0  # The owner ignores SIGCHLD, which is inherited: nobody knows the status.
    return os.waitstatus_to_exitcode(status)


def _tail(path: str) -> str:
    with open(path, "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
        return log.read().decode("utf-8", "replace").strip()


def _report(text: str) -> None:
    # The owner reads only while it waits for the start.
    with contextlib.suppress(OSError):
        os.write(1, text.encode("utf-8", "replace"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
