"""The embeddings example: the second run computes nothing, and its embeddings are the model's."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.checkout import IMPORTS
from tests.servers import Server
from tests.stored import entries

if importlib.util.find_spec("wordllama") is None:
    pytest.skip(
        "the embedding model is not installed here; `make test-frameworks` runs these tests",
        allow_module_level=True,
    )


def test_the_second_run_comes_from_the_cache(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": IMPORTS, "REDIS_URL": server.url}
    for _ in range(2):  # an earlier run's entries don't count
        done = subprocess.run(
            [sys.executable, "-m", "examples.embeddings", "200"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        head, without, first, second, end = done.stdout.splitlines()
        assert head.startswith("200 paragraphs, ")
        different = int(head.split(", ")[1].split()[0])
        assert len(entries(client)) == different
        assert without.endswith(" 0.0% from the cache")
        assert first.endswith(f" {1 - different / 200:.1%} from the cache")
        assert second.endswith(" 100.0% from the cache")
        assert end.endswith("All embeddings are equal.")


def test_a_text_has_one_embedding_alone_and_among_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url)
    import numpy as np

    from examples.embeddings.__main__ import embed, model
    from examples.embeddings.texts import paragraphs

    texts = paragraphs()[:40]
    alone = np.concatenate([embed([text]) for text in texts])
    assert alone.dtype == np.float32
    assert np.array_equal(alone, embed(texts))
    assert np.array_equal(alone, model.embed(texts, norm=True))
