"""Embed a corpus without a cache, with an empty one and with a filled one; print the speeds.

python -m examples.embeddings    in the Redis at REDIS_URL, or in an embedded one
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import wordllama
from numpy.typing import NDArray

from examples.embeddings.texts import paragraphs
from model_cache import Cache

PACKAGE = Path(wordllama.__file__).parent  # the wheel contains the weights
model = wordllama.WordLlama.load(cache_dir=PACKAGE, disable_download=True)
cache = Cache(os.environ.get("REDIS_URL", "embedded://"), ttl=86_400, timeout=1.0)


@cache.memoize_rows(name="wordllama", version=version("wordllama"))
def embed(texts: list[str]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = model.embed(texts, norm=True)
    return vectors


def measured(
    name: str, function: Callable[[list[str]], NDArray[np.float32]], texts: list[str]
) -> tuple[NDArray[np.float32], float]:
    """Print a row of the table; return the embeddings, and how many seconds they took."""
    before = embed.stats()
    began = time.perf_counter()
    vectors = function(texts)
    seconds = time.perf_counter() - began
    found = embed.stats()
    hits = found.hits + found.shared - before.hits - before.shared
    rate = f"{len(texts) / seconds:,.0f}"
    print(f"{name:<22}{seconds:>9.3f} s{rate:>10} texts/s{hits / len(texts):>10.1%} from the cache")
    return vectors, seconds


def main(count: int | None = None) -> None:
    """Embed the first `count` paragraphs, or all of them."""
    texts = paragraphs()[:count]
    print(f"{len(texts):,} paragraphs, {len(set(texts)):,} different ones, 256 floats each")
    embed.cache_clear()  # of an earlier run
    model.embed(texts, norm=True)  # warms up
    expected, without = measured("without the cache", embed.__wrapped__, texts)
    first, _ = measured("first run", embed, texts)
    second, seconds = measured("second run", embed, texts)
    assert np.array_equal(first, expected)
    assert np.array_equal(second, expected)
    print(f"The second run takes {1 - seconds / without:.1%} less time. All embeddings are equal.")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
