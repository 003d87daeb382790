"""Keys are found and taken apart again, and those of others are not mistaken for ours."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_cache.keys.canonical.identities import annotation_identity
from model_cache.keys.key import (
    EntryKey,
    KeyMaker,
    Namespace,
    entries_pattern,
    parse_key,
)

DIGEST = b"COugf-4jqZA8Qk3-s_YD9Q"
PARTS = st.text(st.characters() | st.sampled_from("/%{}*?[]\\ \n\x1b"), max_size=12)


@given(prefix=st.none() | PARTS.filter(bool), name=PARTS, version=PARTS)
def test_the_parts_of_a_key_come_back(prefix: str | None, name: str, version: str) -> None:
    key = Namespace(prefix, name, version).raw + DIGEST
    assert parse_key(key) == EntryKey(prefix, name, version, DIGEST.decode())


@given(st.binary(max_size=60) | st.builds(lambda parts: b"/".join(parts), st.lists(st.binary())))
def test_only_exact_keys_of_this_library_are_parsed(raw: bytes) -> None:
    for key in (raw, raw + b"/" + DIGEST):
        parsed = parse_key(key)
        if parsed is not None:
            namespace = Namespace(parsed.prefix, parsed.qualified_name, parsed.version)
            assert namespace.holds(key)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        DIGEST,
        b"name/" + DIGEST,
        b"a/b/c/d/" + DIGEST,
        b"/name/1/" + DIGEST,  # an empty prefix is refused by the decorator
        b"name/1/" + DIGEST[:-1],
        b"name/1/" + DIGEST + b"A",
        b"name/1/" + DIGEST[:-1] + b"+",
        b"name/1/" + DIGEST + b"\n",
        b"na me/1/" + DIGEST,
        b"na%6De/1/" + DIGEST,  # an m need not be escaped
        b"na%2fe/1/" + DIGEST,  # ours are upper case
        b"na%/1/" + DIGEST,
        b"na\xff/1/" + DIGEST,
        b"na%FF/1/" + DIGEST,
        b"{name/1/" + DIGEST + b"}:lease",
    ],
)
def test_keys_in_another_form_are_foreign(key: bytes) -> None:
    assert parse_key(key) is None


def test_the_glob_of_a_model_escapes_special_characters() -> None:
    assert entries_pattern("p*", "a[b]", None) == b"p%2A/a%5Bb%5D/*/" + b"[^/]" * 22
    assert entries_pattern(None, "a", "1") == Namespace(None, "a", "1").pattern


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
