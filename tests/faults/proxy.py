"""A TCP proxy that misbehaves on demand, in its own process.

It must not share the interpreter with the threads whose waits are measured. The test holds a
`FaultProxy`; the other half of this file, which needs nothing but the standard library, is the
process. What goes through it is unknown here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

Mode: TypeAlias = Literal[
    "pass", "delay", "jitter", "drop", "blackhole", "cut", "trickle", "refuse", "flip"
]


class FaultProxy:
    """A proxy before a port of 127.0.0.1; it passes everything on until it is told otherwise.

    Args:
        target: the port to pass to.
    """

    def __init__(self, target: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._answer())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def passes(self) -> None:
        """Behave."""
        self._tell("pass")

    def delays(self, *, requests: float = 0.0, replies: float = 0.0) -> None:
        """Hold whatever comes for so many seconds."""
        self._tell("delay", requests=requests, replies=replies)

    def delays_at_random(self, most: float) -> None:
        """Hold each reply for up to so many seconds."""
        self._tell("jitter", most=most)

    def drops(self) -> None:
        """Lose whatever comes, on connections that stay open."""
        self._tell("drop")

    def blackholes(self) -> None:
        """Be a host that has gone: no byte arrives, and nobody answers who connects."""
        self._tell("blackhole")

    def cuts(self, most: int) -> None:
        """Close each connection in the middle of its replies, after up to `most` bytes."""
        self._tell("cut", most=most)

    def trickles(self, pause: float) -> None:
        """Send replies byte by byte."""
        self._tell("trickle", pause=pause)

    def refuses(self) -> None:
        """Close all connections and the port."""
        self._tell("refuse")

    def flips(self, share: float) -> None:
        """Flip a random bit in a share of the replies."""
        self._tell("flip", share=share)

    def reset(self) -> None:
        """Reset the connections of this moment; nothing else changes."""
        self._tell("reset")

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # which ends it
        self._process.wait(10)
        self._process.stdout.close()

    def _tell(self, mode: str, **options: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"mode": mode, **options}) + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def fault_proxy(target: int) -> Iterator[FaultProxy]:
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.stop()


class _Proxy:
    def __init__(self, target: int) -> None:
        self._target = target
        self._mode: Mode = "pass"
        self._options: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._plugs: list[socket.socket] = []
        self.port = 0

    async def listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def obey(self, mode: Any, options: dict[str, Any]) -> None:
        if mode == "reset":
            self._reset_all()
            return
        self._mode, self._options = mode, options
        changed, self._changed = self._changed, asyncio.Event()
        self._unplug()
        if mode in ("refuse", "blackhole"):
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            if mode == "refuse":
                self._reset_all()
            else:
                self._plug()
        elif self._listener is None:
            await self.listen()
        changed.set()

    def _plug(self) -> None:
        """Fill the queue of connections to be accepted: from then on, SYNs are lost."""
        plugged = socket.socket()
        plugged.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plugged.bind(("127.0.0.1", self.port))
        plugged.listen(0)
        self._plugs = [plugged]
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._plugs.append(filler)

    def _unplug(self) -> None:
        while self._plugs:
            self._plugs.pop().close()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_target = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        self._writers.add(writer)
        try:
            await asyncio.gather(
                self._pump(reader, to_target[1], replies=False),
                self._pump(to_target[0], writer, replies=True),
            )
        finally:
            self._writers.discard(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        left: int | None = None  # bytes until the cut
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                while self._mode == "blackhole":
                    await self._changed.wait()
                mode, options = self._mode, self._options
                if mode == "drop":
                    continue
                if mode == "delay":
                    await asyncio.sleep(options["replies" if replies else "requests"])
                elif replies and mode == "jitter":
                    await asyncio.sleep(random.uniform(0, options["most"]))
                elif replies and mode == "trickle":
                    await self._trickle(writer, data, options["pause"])
                    continue
                elif replies and mode == "flip" and random.random() < options["share"]:
                    data = _flipped(data)
                elif replies and mode == "cut":
                    left = random.randint(1, options["most"]) if left is None else left
                    data, left = data[:left], left - len(data)
                writer.write(data)
                await writer.drain()
                if left is not None and left <= 0:
                    break
        writer.close()

    async def _trickle(self, writer: asyncio.StreamWriter, data: bytes, pause: float) -> None:
        for number in range(len(data)):
            writer.write(data[number : number + 1])
            await writer.drain()
            if self._mode == "trickle":
                await asyncio.sleep(pause)


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)  # closing sends RST
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def _flipped(data: bytes) -> bytes:
    flipped = bytearray(data)
    flipped[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(flipped)


async def _main(target: int) -> None:
    proxy, loop = _Proxy(target), asyncio.get_running_loop()
    await proxy.listen()
    print(proxy.port, flush=True)

    def obey() -> None:
        for line in sys.stdin:
            options = json.loads(line)
            mode = options.pop("mode")
            asyncio.run_coroutine_threadsafe(proxy.obey(mode, options), loop).result()
            print("done", flush=True)
        os._exit(0)  # whatever is still being held

    threading.Thread(target=obey, daemon=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
