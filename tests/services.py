"""Services for the tests: processes on free ports of 127.0.0.1, stopped as by an orchestrator."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.checkout import IMPORTS
from tests.servers import free_port

JSON = {"Content-Type": "application/json"}


class Service:
    """The process of a web service. A `with` block waits for it and stops it. Its log is a file.

    Args:
        command: a module and its arguments; uvicorn is given the port and patience with Redis,
            others get the port as PORT, as part of BIND, and in place of "{port}".
        environment: added to this process's.
        log: the file.
        ready: the path that answers 200 once the service does.
        leads: whether it leads a process group, which `stop` then ends with it.
    """

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        log: Path,
        ready: str,
        *,
        leads: bool = False,
    ) -> None:
        self.port, self._log, self._ready, self._leads = free_port(), log, ready, leads
        if command[0] == "uvicorn":
            command = ["tests.patience", *command, "--port", "{port}"]
        command = [word.replace("{port}", str(self.port)) for word in command]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={
                    **os.environ,
                    "PYTHONPATH": IMPORTS,
                    **environment,
                    "BIND": f"127.0.0.1:{self.port}",
                    "PORT": str(self.port),
                },
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=leads,
            )

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                if self.exchange("GET", self._ready)[0] == 200:
                    return
            assert time.monotonic() < deadline, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.05)

    def call(
        self,
        method: str,
        path: str,
        body: str | bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] = JSON,
    ) -> tuple[int, Any]:
        """Send a request; return status and JSON."""
        status, _, answer = self.exchange(method, path, body, headers)
        return status, json.loads(answer)

    def exchange(
        self,
        method: str,
        path: str,
        body: str | bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] = JSON,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a request by a connection of its own; return status, headers and body.

        A body in parts is sent without telling its length.
        """
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        ) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def stop(self) -> int:
        """End it by a SIGTERM; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            if self._leads:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
