"""Draw images, send each twice, and show the effect of the cache.

python -m examples.image_service.client --url http://127.0.0.1:5000
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from examples.image_service.drawing import receipts


class Client:
    """A keep-alive connection to the service."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"expected a url of the form http://host:port, got {url!r}")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def predict(self, name: str, content: bytes) -> tuple[dict[str, Any], float]:
        """Send an image; return the answer and the duration in milliseconds.

        Raises:
            OSError: the service can't be reached.
            RuntimeError: the service returned an error; the message contains it.
        """
        image = base64.b64encode(content).decode()
        body = json.dumps({"file_path": name, "img_base64": image})
        began = time.perf_counter()
        self._connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        elapsed = 1000 * (time.perf_counter() - began)
        if response.status != 200:
            raise RuntimeError(f"{name}: HTTP {response.status}: {answer['detail']}")
        return answer, elapsed


def show_round(client: Client, images: Sequence[tuple[str, bytes]], title: str) -> None:
    """Send each image, and print a line about each answer."""
    print(f"{title}\n  job     image                cache  elapsed [ms]  first line")
    times = []
    for name, content in images:
        answer, elapsed = client.predict(name, content)
        times.append(elapsed)
        lines = answer["prediction"]["lines"]
        text = lines[0]["text"] if lines else "(no text)"
        job, cache = answer["job_id"], answer["cache"]
        print(f"  {job}  {name:<20} {cache:<6} {elapsed:>12.2f}  {text}")
    print(f"  median {statistics.median(times):.2f} ms\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.image_service.client")
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="(default: %(default)s)")
    parser.add_argument("--images", type=_count, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="selects the images to draw")
    options = parser.parse_args(arguments)
    try:
        images = receipts(options.images, options.seed)
        with contextlib.closing(Client(options.url)) as client:
            for title in ("first round", "second round"):
                show_round(client, images, title)
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10,000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
