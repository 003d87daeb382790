"""Entries from an untrusted Redis: mutated, spliced, forged, blown up.

Whatever bytes come, decoding returns an instance of the schema or None, within bounds; with
integrity, it returns None for whatever is not, byte for byte, what was written under that key.
"""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import snappy
import zstandard
from lz4 import block as lz4
from pydantic import BaseModel

from model_cache.entries.codec import Codec
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.envelope import MAX_PAYLOAD
from model_cache.entries.serders import JSON, MESSAGE_PACK
from model_cache.protocols import Compressor
from tests.checkout import REPOSITORY
from tests.golden_cases import PREDICTIONS, Charges, Holds, Node, Prediction
from tests.properties.pictures import picture

ENTRIES = int(os.environ.get("FUZZ_ENTRIES", "100000"))
SERDERS = (JSON, MESSAGE_PACK)
COMPRESSORS_OF_OURS: list[Compressor | None] = [
    None,
    *(COMPRESSORS.named(name) for name in ("snappy", "zstd", "lz4")),
]
WAYS = [
    (serder, compressor, integrity)
    for serder in SERDERS
    for compressor in COMPRESSORS_OF_OURS
    for integrity in (False, True)
]
KEY, OTHER_KEY = b"fuzz/1/key", b"fuzz/1/yek"
WRITTEN = [
    *PREDICTIONS.values(),
    Node(value=0, children=[Node(value=n, children=[Node(value=-n)]) for n in range(20)]),
    Holds(value={"a": [1, 2.5, None, {"b": ["text" * 30, True]}]}),
]

# --- mutations


def flipped(entry: bytes, chance: random.Random, other: bytes) -> bytes:
    mutated = bytearray(entry)
    for _ in range(chance.randint(1, 3)):
        mutated[chance.randrange(len(mutated))] ^= 1 << chance.randrange(8)
    return bytes(mutated)


def overwritten(entry: bytes, chance: random.Random, _: bytes) -> bytes:
    mutated = bytearray(entry)
    mutated[chance.randrange(min(len(entry), 40))] = chance.randrange(256)
    return bytes(mutated)


def truncated(entry: bytes, chance: random.Random, _: bytes) -> bytes:
    return entry[: chance.randrange(len(entry))]


def inserted(entry: bytes, chance: random.Random, _: bytes) -> bytes:
    place = chance.randint(0, len(entry))
    return entry[:place] + chance.randbytes(chance.randint(1, 8)) + entry[place:]


def deleted(entry: bytes, chance: random.Random, _: bytes) -> bytes:
    place = chance.randrange(len(entry))
    return entry[:place] + entry[place + chance.randint(1, 8) :]


def spliced(entry: bytes, chance: random.Random, other: bytes) -> bytes:
    return entry[: chance.randint(0, len(entry))] + other[chance.randint(0, len(other)) :]


def replaced(_: bytes, __: random.Random, other: bytes) -> bytes:
    return other


def noise(_: bytes, chance: random.Random, __: bytes) -> bytes:
    return chance.choice([b"", b"{", b"\x81", b"\xc1", b"\xc1\x01"]) + chance.randbytes(
        chance.randint(0, 40)
    )


def reheaded(entry: bytes, chance: random.Random, other: bytes) -> bytes:
    """Another head before a payload: other serder, compressor, flags, with or without a tag."""
    numbers = [*range(9), 128, 255]
    head = bytes((0xC1, chance.choice([0, 1, 1, 1, 2]), *chance.choices(numbers, k=3)))
    tag = chance.choice([b"", bytes(8), bytes(16), chance.randbytes(16), entry[5:21]])
    return head + tag + chance.choice([entry, entry[5:], entry[21:], other[5:]])


def varint(number: int) -> bytes:
    return bytes(number >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)) + bytes((number >> 28,))


def resized(entry: bytes, chance: random.Random, _: bytes) -> bytes:
    """A size where one may stand: of a compressed payload, or a MessagePack container."""
    size = chance.choice([0, 1, 255, 65535, MAX_PAYLOAD + 1, 2**31 - 1, 2**31, 2**32 - 1])
    written = chance.choice(
        [
            struct.pack("<I", size),
            struct.pack(">I", size),
            varint(size),
            bytes((chance.choice([*range(0xC4, 0xCA), *range(0xD9, 0xE0)]),))
            + struct.pack(">I", size),
        ]
    )
    place = chance.choice([0, 1, 5, 7, 21, chance.randrange(len(entry))])
    return entry[:place] + written + entry[place + chance.choice([0, len(written)]) :]


def deepened(entry: bytes, chance: random.Random, _: bytes) -> bytes:
    """Containers in containers, where a value stands."""
    opening = chance.choice([b"[", b'{"a":', b"\x91", b"\x81\xa1a", b"\xc8\x00\x01", b'[{"value":'])
    place = chance.choice([0, 5, chance.randrange(len(entry))])
    return entry[:place] + opening * chance.randint(1, 1500) + entry[place:]


MUTATIONS: list[Callable[[bytes, random.Random, bytes], bytes]] = [
    flipped,
    overwritten,
    truncated,
    inserted,
    deleted,
    spliced,
    replaced,
    noise,
    reheaded,
    resized,
    deepened,
]


def mutations(entries: list[bytes], number: int, seed: str) -> Iterator[tuple[int, bytes]]:
    """Yield the place of an entry, and a mutation of it that is not what it was."""
    chance = random.Random(seed)
    while number:
        place = chance.randrange(len(entries))
        mutate = MUTATIONS[number % len(MUTATIONS)]
        mutated = mutate(entries[place], chance, chance.choice(entries))
        if mutated != entries[place]:
            yield place, mutated
            number -= 1


def way(value: Any) -> str:
    return "plain" if value is None else getattr(value, "name", str(value))


@pytest.mark.parametrize(("serder", "compressor", "integrity"), WAYS, ids=way)
def test_a_mutated_entry_is_a_prediction_or_nothing(
    serder: Any, compressor: Compressor | None, integrity: bool
) -> None:
    """Nothing at all, with integrity; and the entries themselves are still read."""
    codecs = [
        Codec(type(prediction), serder=serder, compressor=compressor, integrity=integrity)
        for prediction in WRITTEN
    ]
    keys = [b"fuzz/1/%d" % place for place in range(len(WRITTEN))]
    written = list(zip(codecs, keys, WRITTEN, strict=True))
    entries = [codec.encode(key, prediction) for codec, key, prediction in written]
    served = 0
    seed = f"{serder.name} {way(compressor)} {integrity}"
    for place, mutated in mutations(entries, -(-ENTRIES // len(WAYS)), seed):
        codec, key, prediction = written[place]
        decoded = codec.decode(key, mutated)
        if decoded is not None:
            served += 1
            assert type(decoded) is type(prediction), mutated
            assert codec.read(key, mutated).fresh in (False, True)
            assert not integrity, mutated
    # What flips into another valid value is served without integrity: it is no empty test.
    assert bool(served) != integrity
    for entry, (codec, key, prediction) in zip(entries, written, strict=True):
        restored = codec.decode(key, entry)
        assert picture(restored, prediction=True) == picture(prediction, prediction=True)
        assert (codec.decode(OTHER_KEY, entry) is None) == integrity


@pytest.mark.parametrize("serder", SERDERS, ids=way)
@pytest.mark.parametrize("compressor", COMPRESSORS_OF_OURS, ids=way)
def test_with_integrity_every_single_bit_counts(serder: Any, compressor: Compressor | None) -> None:
    prediction = PREDICTIONS["most"]
    codec = Codec(Prediction, serder=serder, compressor=compressor, integrity=True)
    entry = codec.encode(KEY, prediction)
    for place in range(len(entry)):
        for bit in range(8):
            mutated = bytearray(entry)
            mutated[place] ^= 1 << bit
            assert codec.decode(KEY, bytes(mutated)) is None
        assert codec.decode(KEY, entry[:place]) is None
        assert codec.decode(KEY, entry[:place] + b"\0" + entry[place:]) is None
    assert codec.decode(KEY, entry + b"\0") is None


def test_with_a_secret_entries_with_another_secret_or_none_are_not_served() -> None:
    keys = (b"", b"one", b"two")
    codecs = [Codec(Charges, integrity=True, tag_key=key) for key in keys] + [Codec(Charges)]
    prediction = Charges(charges=1.5)
    for writer in codecs:
        entry = writer.encode(KEY, prediction)
        assert writer.decode(KEY, entry) == prediction
        for reader in codecs[:3]:
            assert (reader.decode(KEY, entry) is not None) == (reader is writer)


# --- bombs


def enveloped(serder: int, compressor: int, payload: bytes, flags: int = 0) -> bytes:
    return bytes((0xC1, 1, serder, compressor, flags)) + payload


def zstd_without_size(payload: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    return bytes(compressor.compress(payload))


def zstd_of_size(size: int) -> bytes:
    """A frame of a single segment that claims a size, with one empty block."""
    return struct.pack("<IBQ", 0xFD2FB528, 0b11100000, size) + bytes((1, 0, 0))


def filled(start: bytes, unit: bytes) -> bytes:
    """A payload as large as is believed, and then compressed to almost nothing."""
    return start + unit * ((MAX_PAYLOAD - len(start)) // len(unit))


def nested_arrays(size: int, depth: int = 500) -> bytes:
    """Arrays in arrays, each of which claims as many items as there are bytes."""
    return ((b"\xdd" + struct.pack(">I", size)) * depth).ljust(size, b"\0")


ZSTD = zstandard.ZstdCompressor()
BOMBS: dict[str, Callable[[], bytes]] = {
    "snappy claims 4 GiB": lambda: enveloped(2, 1, varint(2**32 - 1) + b"\0" * 20),
    "snappy claims all there may be": lambda: enveloped(2, 1, varint(MAX_PAYLOAD) + b"\0" * 20),
    "snappy one more than there may be": lambda: enveloped(
        1, 1, snappy.compress(bytes(MAX_PAYLOAD + 1))
    ),
    "snappy holds more than it claims": lambda: enveloped(
        1, 1, varint(10) + snappy.compress(bytes(2**24))[4:]
    ),
    "lz4 claims 4 GiB": lambda: enveloped(2, 3, b"\xff" * 4 + b"\0" * 20),
    "lz4 claims 2 GiB": lambda: enveloped(2, 3, struct.pack("<I", 2**31 - 1) + b"\0" * 20),
    "lz4 claims all there may be": lambda: enveloped(2, 3, struct.pack("<I", MAX_PAYLOAD) + b"\0"),
    "lz4 one more than there may be": lambda: enveloped(1, 3, lz4.compress(bytes(MAX_PAYLOAD + 1))),
    "lz4 holds more than it claims": lambda: enveloped(
        1, 3, struct.pack("<I", 10) + lz4.compress(bytes(2**24))[4:]
    ),
    "zstd one more than there may be": lambda: enveloped(
        1, 2, ZSTD.compress(bytes(MAX_PAYLOAD + 1))
    ),
    "zstd does not say how large": lambda: enveloped(
        1, 2, zstd_without_size(bytes(MAX_PAYLOAD * 4))
    ),
    "zstd claims 16 EiB": lambda: enveloped(1, 2, zstd_of_size(2**64 - 2)),
    "zstd claims all there may be": lambda: enveloped(1, 2, zstd_of_size(MAX_PAYLOAD)),
    "zstd of many frames": lambda: enveloped(1, 2, ZSTD.compress(bytes(2**24)) * 100),
    "JSON of zeros": lambda: enveloped(1, 2, ZSTD.compress(filled(b'{"charges":[', b"0,"))),
    "JSON of empty lists": lambda: enveloped(1, 2, ZSTD.compress(filled(b'{"charges":[', b"[],"))),
    "JSON of small objects": lambda: enveloped(
        1, 2, ZSTD.compress(filled(b'{"charges":[', b'{"":0},'))
    ),
    "JSON opened all the way": lambda: enveloped(1, 2, ZSTD.compress(filled(b"", b"["))),
    "JSON of one number": lambda: b'{"charges":' + b"9" * 2**19 + b"}",
    "MessagePack of zeros": lambda: enveloped(
        2, 2, ZSTD.compress(filled(b"\xdd" + struct.pack(">I", MAX_PAYLOAD - 5), b"\0"))
    ),
    "MessagePack of empty maps": lambda: enveloped(
        2, 2, ZSTD.compress(filled(b"\xdd" + struct.pack(">I", MAX_PAYLOAD - 5), b"\x80"))
    ),
    "MessagePack of nested claims": lambda: enveloped(2, 0, nested_arrays(2**20 - 5)),
    "MessagePack of compressed nested claims": lambda: enveloped(
        2, 2, ZSTD.compress(nested_arrays(2**24))
    ),
    "MessagePack opened all the way": lambda: enveloped(2, 2, ZSTD.compress(filled(b"", b"\x91"))),
    "MessagePack claims": lambda: b"\x81\xa7charges\xdd\xff\xff\xff\xff",
    "MessagePack map claims": lambda: b"\xdf\xff\xff\xff\xff\xa1a",
    "MessagePack extension": lambda: msgpack.packb({"charges": msgpack.ExtType(5, bytes(100))}),
    "unset fields of nested claims": lambda: enveloped(
        1, 0, struct.pack(">H", 65535) + nested_arrays(65535) + b"{}", flags=2
    ),
}

MOST_MEMORY = 2**30
MOST_SECONDS = 10.0


def explode(name: str) -> None:
    """Decode a bomb, and print what that took at most."""
    entry = BOMBS[name]()
    if sys.platform == "linux":  # spare the machine
        limit = peak_memory() + 3 * MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before, started = peak_memory(), time.process_time()
    for codec in (Codec(Charges), Codec(Holds)):
        decoded = codec.decode(KEY, entry)
        assert decoded is None or isinstance(decoded, BaseModel)
    print(json.dumps([name, peak_memory() - before, time.process_time() - started]), flush=True)


def peak_memory() -> int:
    """Return the most bytes that this process has had so far: reserved, where that is known."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmPeak:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def explode_all() -> None:
    """Decode each bomb in a process of its own."""
    for name in BOMBS:
        pid = os.fork()
        if not pid:
            explode(name)
            os._exit(0)
        os.waitpid(pid, 0)


@pytest.fixture(scope="module")
def explosions() -> dict[str, tuple[float, float]]:
    """Return the memory and the time that each bomb took; it is missing if the process died."""
    finished = subprocess.run(
        [sys.executable, "-c", "from tests.entries.test_fuzz import explode_all; explode_all()"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        check=True,
    )
    lines = map(json.loads, finished.stdout.splitlines())
    return {name: (memory, seconds) for name, memory, seconds in lines}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_defused(name: str, explosions: dict[str, tuple[float, float]]) -> None:
    assert name in explosions, "the process died"
    memory, seconds = explosions[name]
    assert memory <= MOST_MEMORY
    assert seconds <= MOST_SECONDS
