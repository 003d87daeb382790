"""The image service end to end: how much faster a hit is than a miss.

`.venv-images/bin/python -m benchmarks.image_service` starts the service and a Redis, draws pages of
text and sends each over one keep-alive connection: first as a new image, which is read and stored,
then again, which is a hit. The client measures both, so they include HTTP, JSON and base64.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.environment import environment, options, show
from benchmarks.tables import Table
from examples.image_service.client import Client
from examples.image_service.drawing import draw
from model_cache import embedded_redis

_HITS = 10


def pages(count: int, lines: int) -> list[bytes]:
    """Return new images with the given number of lines of text."""
    dice = random.Random()
    return [
        draw(
            [f"Item {dice.randrange(10**6):06}  {dice.random() * 1000:8.2f}" for _ in range(lines)]
        )
        for _ in range(count)
    ]


@contextlib.contextmanager
def running_service() -> Iterator[Client]:
    """Run the service in one gunicorn process, with its own Redis."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with embedded_redis(tcp=True) as url:
        settings = {"REDIS_URL": url, "BIND": f"127.0.0.1:{port}", "WEB_CONCURRENCY": "1"}
        command = ["gunicorn", "--config", "examples/image_service/gunicorn.conf.py"]
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(port, process)
            with contextlib.closing(Client(f"http://127.0.0.1:{port}")) as client:
                yield client
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"the service did not start on port {port}")


def measure(client: Client, images: list[bytes], lines: int) -> dict[str, Any]:
    """Send each image and resend it, interleaved, so that both run under the same load."""
    misses, hits = [], []
    for image in images:
        answer, elapsed = client.predict("page.png", image)
        assert answer["cache"] == "miss"
        misses.append(elapsed)
        while client.predict("page.png", image)[0]["cache"] == "miss":
            pass  # the entry is written after the response
        for _ in range(_HITS):
            again, elapsed = client.predict("page.png", image)
            assert again["cache"] == "hit"
            assert again["prediction"] == answer["prediction"]
            hits.append(elapsed)
    return {
        "lines": lines,
        "kilobytes": statistics.mean(map(len, images)) / 1000,
        "miss": statistics.median(misses),
        "miss_p95": statistics.quantiles(misses, n=20)[-1],
        "hit": statistics.median(hits),
        "hit_p95": statistics.quantiles(hits, n=20)[-1],
    }


def main() -> None:
    chosen = options("image_service", __doc__, count=20)
    found = environment()
    with running_service() as client:
        rows = [measure(client, pages(chosen.count, lines), lines) for lines in (2, 10)]
    title = f"{chosen.count} images of each kind, each {_HITS} times from the cache; milliseconds"
    columns = {"kB": ".1f", "miss": ".1f", "p95": ".1f", "hit": ".2f", "hit, p95": ".2f"}
    table = Table(title, "lines of text", {**columns, "miss / hit": ".0f"})
    for row in rows:
        times = (row["miss"], row["miss_p95"], row["hit"], row["hit_p95"])
        table.add(str(row["lines"]), row["kilobytes"], *times, row["miss"] / row["hit"])
    show(chosen, __doc__, found, [table], rows=rows)


if __name__ == "__main__":
    main()
