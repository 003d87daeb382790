"""Keys are found and taken apart again, and those of others are not mistaken for ours."""

from __future__ import annotations

from typing import Annotated

import pytest

from model_cache.keys.canonical.identities import annotation_identity
from model_cache.keys.key import (
    DIGEST_LENGTH,
    EntryKey,
    KeyMaker,
    Namespace,
    entries_pattern,
    parse_key,
)

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


def test_a_pattern_finds_the_keys_of_a_model() -> None:
    digest = b"[^/]" * DIGEST_LENGTH
    assert entries_pattern(None, "model", "1") == b"model/1/" + digest
    assert entries_pattern("prefix", "model", "1") == b"prefix/model/1/" + digest
    assert entries_pattern("prefix", "model", None) == b"prefix/model/*/" + digest


def test_an_annotated_type_is_identified_by_the_type() -> None:
    assert annotation_identity(Annotated[int, "places"]) == annotation_identity(int)
    assert annotation_identity(Annotated[int, "places"]) != annotation_identity(float)


@pytest.mark.parametrize("secret", [None, "secret"])
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_keys_made_at_once_are_those_made_one_by_one(count: int, secret: str | None) -> None:
    maker = KeyMaker(Namespace("prefix", "model", "1"), secret=secret)
    tails = [b"%d" % number * (number % 50) for number in range(count)]
    for head in (b"", b"head", b"h" * 1000):
        assert maker.keys_of(head, tails) == [maker.key_of(head + tail) for tail in tails]
