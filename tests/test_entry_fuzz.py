"""Redis is untrusted: whatever an entry has become, decoding it raises nothing and invents nothing.

`FUZZ_ENTRIES` says how many mutated entries are tried; the seed is fixed.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from itertools import product
from typing import Literal

import pytest
import zstandard
from pydantic import BaseModel, Field

from model_cache.codec import MAX_PAYLOAD, Codec
from model_cache.compressors import COMPRESSORS
from model_cache.serders import JSON, MESSAGE_PACK

ENTRIES = int(os.environ.get("FUZZ_ENTRIES", "100000"))
KEY, OTHER_KEY = b"model/1/AAAAAAAAAAAAAAAAAAAAAA", b"model/1/BBBBBBBBBBBBBBBBBBBBBB"


class Part(BaseModel):
    kind: Literal["part"] = "part"
    weight: float | None = None


class Output(BaseModel):
    score: float
    label: str = "none"
    parts: list[Part] = []
    table: dict[str, int] = Field(default_factory=dict)
    raw: bytes = b""


PREDICTIONS = [
    Output(score=0.5),
    Output(score=float("nan"), label="é" * 50),
    Output(score=1e300, parts=[Part(), Part(weight=1.0)], table={"a": 1}, raw=b"\xff\x00"),
    Output(score=-0.0, label="ab" * 300, parts=[Part(weight=None)] * 20),
]
COMPRESSIONS = [None, *map(COMPRESSORS.named, ("snappy", "zstd", "lz4"))]


def codecs(*, integrity: bool) -> list[Codec]:
    return [
        Codec(Output, serder=serder, compressor=compressor, integrity=integrity)
        for serder, compressor in product((JSON, MESSAGE_PACK), COMPRESSIONS)
    ]


def mutated(rng: random.Random, entry: bytes, other: bytes) -> bytes:
    """Return an entry that something happened to."""
    data = bytearray(entry)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = rng.randrange(len(data)) if data else 0
        match rng.randrange(9):
            case 0 | 1 if data:
                data[place] ^= 1 << rng.randrange(8)
            case 2 if data:
                data[place] = rng.choice((0, 1, 2, 0x7B, 0x7D, 0x80, 0xC1, 0xDF, 0xFF))
            case 3:
                del data[place:]
            case 4:
                del data[place : place + rng.randrange(1, 9)]
            case 5:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 6:
                cut = rng.randrange(len(other))
                data = data[:place] + other[cut:]
            case 7:
                data[:6] = bytes((0xC1, 1, rng.randrange(4), rng.randrange(5), rng.randrange(8)))
            case _:
                data = bytearray(rng.randbytes(rng.randrange(64)))
    return bytes(data)


def mutations(*, integrity: bool) -> Iterator[tuple[Codec, bytes]]:
    """Yield codecs, and what became of the entries that they wrote."""
    rng = random.Random(20261121)
    all_codecs = codecs(integrity=integrity)
    written = [(c, c.encode(KEY, p)) for c, p in product(all_codecs, PREDICTIONS)]
    for _ in range(ENTRIES):
        codec, entry = rng.choice(written)
        yield codec, mutated(rng, entry, rng.choice(written)[1])


def test_whatever_became_of_an_entry_decoding_it_raises_nothing() -> None:
    served = 0
    for codec, entry in mutations(integrity=False):
        prediction = codec.decode(KEY, entry)
        assert prediction is None or type(prediction) is Output
        served += prediction is not None
    # Some still hold a valid value, which is what integrity is for.
    assert 0 < served < ENTRIES


def test_with_integrity_no_mutated_entry_is_served() -> None:
    whole = {c.encode(KEY, p) for c, p in product(codecs(integrity=True), PREDICTIONS)}
    for codec, changed in mutations(integrity=True):
        assert changed in whole or codec.decode(KEY, changed) is None


def test_with_integrity_no_entry_is_served_under_another_key() -> None:
    for codec, prediction in product(codecs(integrity=True), PREDICTIONS):
        entry = codec.encode(KEY, prediction)
        assert codec.decode(KEY, entry) is not None
        assert codec.decode(OTHER_KEY, entry) is None


def envelope(compressor: int, payload: bytes, serder: int = 2) -> bytes:
    return bytes((0xC1, 1, serder, compressor, 0)) + payload


def huge(prefix: bytes) -> bytes:
    return prefix + b"\xff\xff\xff\xff"


def without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.parametrize(
    "entry",
    [
        envelope(1, b"\xff\xff\xff\xff\x0f" + b"x" * 100),  # snappy: claims 4 GiB
        envelope(1, b"\xff" * 100),
        envelope(3, b"\xff\xff\xff\x7f" + b"x" * 100),  # lz4: claims 2 GiB
        envelope(2, zstandard.compress(bytes(2 * MAX_PAYLOAD))),
        envelope(2, without_size(bytes(2 * MAX_PAYLOAD))),
        huge(b"\xdf"),  # MessagePack: a map of 4 billion
        envelope(0, huge(b"\xdd")),
        envelope(0, huge(b"\xc6")),
        envelope(0, b"\x91" * 100_000),
        b"\x81\xa5parts" + b"\x91" * 100_000,
        b'{"parts":' + b"[" * 100_000,
        b'{"score":' + b"9" * 100_000 + b"}",
        envelope(0, b"[" * 100_000, serder=1),
    ],
    ids=range(13),
)
def test_a_bomb_is_a_miss_and_allocates_little(entry: bytes) -> None:
    codec = Codec(Output)
    codec.decode(KEY, b"{}")
    tracemalloc.start()
    try:
        assert codec.decode(KEY, entry) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_PAYLOAD
