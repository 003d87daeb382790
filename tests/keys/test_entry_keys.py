"""Keys are taken apart again, and those of others are not mistaken for ours."""

from __future__ import annotations

import pytest

from model_cache.keys.key import EntryKey, parse_key

DIGEST = "A" * 22


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        (b"model/1", (None, "model", "1")),
        (b"prefix/model/1", ("prefix", "model", "1")),
        (b"\xff/1", None),
        (b"%FF/1", None),
        (b"%ff/1", None),
        (b"/model/1", None),
        (b"model", None),
        (b"a/b/model/1", None),
    ],
)
def test_a_key_is_taken_apart_or_foreign(
    head: bytes, parts: tuple[str | None, str, str] | None
) -> None:
    found = parse_key(head + b"/" + DIGEST.encode())
    assert found == (None if parts is None else EntryKey(*parts, DIGEST))
