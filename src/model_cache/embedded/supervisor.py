"""Run a server as long as its owner lives, then stop it and remove its folder.

This is a script that is started by path and does not import the package. Its stdin is a pipe that
the owner keeps open without writing to it: end of file means that the owner has closed it, exited
or been killed. On its stdout, it reports why the server ended if the server ended by itself.

    python -I -S supervisor.py BINARY FOLDER

FOLDER contains `server.conf` and everything that the server writes.
"""

# The owner waits for this script to start; importing `subprocess` and `shutil` would double that.
import contextlib
import os
import select
import signal
import sys
import time

FOLDER_PREFIX = "model-cache-"
# The first line of `server.conf`: only folders that have it are ever removed by `_sweep`.
MARK = "# An embedded server of model_cache; this folder goes when the server does."

_OWNER = 0
_LOG_TAIL_BYTES = 2000
_SWEPT_AFTER_SECONDS = 60  # a newer folder may belong to a server that is just starting

# All signals that would otherwise end this script and leave its server behind.
_ENDING = [
    getattr(signal, name)
    for name in (
        *("SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGTERM", "SIGUSR1", "SIGUSR2"),
        *("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO"),
    )
    if hasattr(signal, name)
]


def main(binary: str, folder: str) -> int:
    """Serve until the owner is gone (0) or the server has ended by itself (1)."""
    _handle_signals(_end)
    try:
        return _serve(binary, folder)
    except OSError as error:
        _report(f"{binary}: {error}")
        return 1
    finally:
        _remove(folder)


def _handle_signals(handler: object) -> None:
    for number in _ENDING:
        signal.signal(number, handler)  # type: ignore[arg-type]


def _end(*_: object) -> None:
    _handle_signals(signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    sys.exit(1)


def _serve(binary: str, folder: str) -> int:
    log = os.path.join(folder, "server.log")
    _lock(folder)
    # A signal between the server's start and the `try` would leave the server behind.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    server, server_end = _start(binary, os.path.join(folder, "server.conf"), log)
    ended_by_itself = False
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _sweep(os.path.dirname(folder))
        ended_by_itself = _server_ends_first(server_end)
    finally:
        status = _kill(server)
    if ended_by_itself:
        _report(f"{binary} ended with status {status}\n{_tail(log)}")
    return int(ended_by_itself)


def _lock(folder: str) -> None:
    """Lock a folder while this process or the server, which inherits the lock, is alive."""
    import fcntl

    held = os.open(folder, os.O_RDONLY)
    os.set_inheritable(held, True)
    with contextlib.suppress(OSError):  # without locks, nothing is swept either
        fcntl.flock(held, fcntl.LOCK_SH)


def _start(binary: str, config: str, log: str) -> tuple[int, int]:
    """Start the server; return its process id, and a descriptor that closes when it ends."""
    server_end, held_by_server = os.pipe()
    failure, failed = os.pipe()  # closed by a successful exec
    supervisor = os.getpid()
    server = os.fork()
    if server == 0:
        try:
            os.set_inheritable(held_by_server, True)
            _become(binary, config, log, supervisor)
        except BaseException as error:
            os.write(failed, str(error).encode("utf-8", "replace"))
        finally:
            os._exit(1)
    os.close(held_by_server)
    os.close(failed)
    if reason := os.read(failure, 4096):
        os.waitpid(server, 0)
        raise OSError(reason.decode("utf-8", "replace"))
    os.close(failure)
    return server, server_end


def _become(binary: str, config: str, log: str, supervisor: int) -> None:
    """Turn this process, a fork, into the server."""
    # A separate process group: the server may be a wrapper script, or have forked to save.
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _handle_signals(signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    _die_with(supervisor)
    os.execv(binary, [binary, config])


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, even by SIGKILL."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)


def _sweep(parent: str) -> None:
    """Remove the folders of servers whose supervisor was killed before it could do so."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(FOLDER_PREFIX):
                _sweep_one(entry.path)


def _sweep_one(folder: str) -> None:
    import fcntl

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(OSError, ValueError))  # ValueError: not ASCII
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, held)
        status = os.fstat(held)
        if status.st_uid != os.getuid() or time.time() - status.st_mtime < _SWEPT_AFTER_SECONDS:
            return
        with open(os.path.join(folder, "server.conf"), encoding="ascii") as config:
            if config.readline().rstrip() != MARK:
                return
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while it is in use
        _remove(folder)


def _remove(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _server_ends_first(server_end: int) -> bool:
    while True:
        readable, _, _ = select.select([_OWNER, server_end], [], [])
        # Data does not end it: an owner that had closed its stdout may print into the pipe.
        if _OWNER in readable and not os.read(_OWNER, 4096):
            return False
        if server_end in readable:
            return True


def _kill(server: int) -> int:
    # It may have ended already; macOS says "not permitted" for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server, signal.SIGKILL)
    try:
        _, status = os.waitpid(server, 0)
    except ChildProcessError:
        return 0  # The owner ignores SIGCHLD, which is inherited: the status is lost.
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
