"""Entries are described without a model or its schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from model_cache.entries.codec import Codec
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.describe import describe
from model_cache.entries.envelope import MAX_PAYLOAD
from model_cache.entries.serders import JSON, MESSAGE_PACK
from tests.models import Charges, Echo

KEY = b"a_model/1.0/COugf-4jqZA8Qk3-s_YD9Q"


class Rich(BaseModel):
    text: str
    number: float = 1.5
    raw: bytes = b"\xff"


@pytest.mark.parametrize("serder", [JSON, MESSAGE_PACK])
@pytest.mark.parametrize("compressor", [None, "snappy", "zstd", "lz4"])
@pytest.mark.parametrize("fresh_until", [None, 1_700_000_000_000])
@pytest.mark.parametrize("integrity", [False, True])
def test_an_entry_says_how_it_was_written(
    serder: Any, compressor: str | None, fresh_until: int | None, integrity: bool
) -> None:
    prediction = Charges(charges=2.5) if compressor is None else Rich(text="x" * 500, raw=b"a")
    codec = Codec(
        type(prediction),
        serder=serder,
        compressor=COMPRESSORS.named(compressor) if compressor else None,
        integrity=integrity,
    )
    entry = codec.encode(KEY, prediction, fresh_until)
    described = describe(KEY, entry)
    assert described.problem is None
    assert (described.serder, described.compressor) == (serder.name, compressor)
    assert described.fresh_until == fresh_until
    assert described.tag == ("right" if integrity else "none")
    assert described.form == ("envelope" if entry[0] == 0xC1 else "plain")
    if compressor is None:
        assert described.value == {"charges": 2.5}
    else:
        assert described.value["text"] == "x" * 500


def test_an_entry_too_large_to_decode_is_not_reported_as_damaged() -> None:
    codec = Codec(Echo, compressor=COMPRESSORS.named("snappy"), max_entry_bytes=32 * 2**20)
    described = describe(KEY, codec.encode(KEY, Echo(text="x" * (MAX_PAYLOAD + 1))))
    assert described.problem is None
    assert "8 MiB" in described.value


def test_a_tag_of_another_key_or_another_secret_is_wrong() -> None:
    entry = Codec(Charges, integrity=True, tag_key=b"k").encode(KEY, Charges(charges=1.0))
    assert describe(KEY, entry, b"k").tag == "right"
    assert describe(KEY, entry, b"other").tag == "wrong"
    assert describe(KEY + b"x", entry, b"k").tag == "wrong"
    # It is shown all the same: to people, who are told so.
    assert describe(KEY, entry).value == {"charges": 1.0}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (b"", "neither"),
        (b"hello", "neither"),
        (b'{"charges":', "invalid JSON"),
        (b"\x81\xa1", "invalid MessagePack"),
        (b"\xc1", "truncated"),
        (b"\xc1\x01\x01\x00\x01short", "truncated"),
        (b"\xc1\x02\x01\x00\x00{}", "another format"),
        (b"\xc1\x01\x01\x00\x80{}", "another format"),
        (b"\xc1\x01\xc8\x00\x00{}", "not registered"),
        (b"\xc1\x01\x01\xc8\x00{}", "not registered"),
        (b"\xc1\x01\x01\x01\x00{}", "damaged"),
        (b"\xc1\x01\x01\x00\x02\xff\xff{}", "damaged"),
    ],
)
def test_the_description_of_an_invalid_entry_says_why(entry: bytes, problem: str) -> None:
    described = describe(KEY, entry)
    assert described.value is None
    assert problem in str(described.problem)


def test_the_ids_of_unregistered_serders_and_compressors_are_shown() -> None:
    described = describe(KEY, b"\xc1\x01\xc8\xc9\x00{}")
    assert (described.serder, described.compressor) == ("#200", "#201")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_nothing_at_all_raises(head: bytes, rest: bytes) -> None:
    for entry in (head + rest, b"\xc1" + rest, b"\xc1\x01" + rest, b"{" + rest, b"\x81" + rest):
        describe(KEY, entry)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = COMPRESSORS.named("zstd").compress(b"x" * 50_000_000)
    described = describe(KEY, b"\xc1\x01\x01\x02\x00" + bomb)
    assert (described.problem, "8 MiB" in described.value) == (None, True)
