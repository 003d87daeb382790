"""The envelope: a self-describing entry, so that a fleet may mix and change options.

byte 0  0xC1, which no JSON or MessagePack starts with
byte 1  the envelope's format version
byte 2  the serder's id
byte 3  the compressor's id; 0 for none
byte 4  flags; bit 0: there is a tag; bit 1: the payload starts with the unset fields;
bit 2: there is a time; bit 3: the payload is encrypted
8 bytes  the time until which the entry is fresh, in milliseconds since 1970
16 bytes  the tag, over the key, the bytes above and the payload
the payload, compressed: the unset fields, as MessagePack after their length in two bytes,
then the output of the serder. If it is encrypted: a nonce of 12 bytes, the encrypted payload, and a
tag of 16 bytes over it, the key and the bytes above
"""

from __future__ import annotations

import hashlib

from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.unset_fields import Unset, without_unset

MAX_PAYLOAD = 8 * 2**20
"""The largest uncompressed payload to write or read, in bytes, unless `max_entry_bytes` is larger.
Decoded to small Python objects, it can take 80 times as much memory."""

MARK = 0xC1
VERSION = 1
TAGGED = 1
UNSET = 2
TIMED = 4
ENCRYPTED = 8
TAG_SIZE = 16
HEAD_SIZE = 5
TIME_SIZE = 8


def take_apart(entry: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the head of an envelope, its tag (b"" if it has none) and its payload."""
    version, flags = entry[1], entry[4]
    if version != VERSION or flags & ~(TAGGED | UNSET | TIMED | ENCRYPTED):
        raise ValueError("not an envelope of this version")
    size = HEAD_SIZE + (TIME_SIZE if flags & TIMED else 0)
    end = size + (TAG_SIZE if flags & TAGGED else 0)
    if len(entry) < end:
        raise ValueError("truncated")
    return entry[:size], entry[size:end], entry[end:]


def unpack(head: bytes, data: bytes, max_payload: int) -> tuple[Unset, bytes]:
    """Return the unset fields from an envelope's payload, and the output of its serder."""
    compressor, flags = head[3], head[4]
    if compressor:
        data = COMPRESSORS.numbered(compressor).decompress(data, max_payload)
    return without_unset(data) if flags & UNSET else ([], data)


def fresh_until_of(envelope: bytes) -> int | None:
    """Return when an envelope becomes stale, in milliseconds since 1970; None for never."""
    if not envelope[4] & TIMED:
        return None
    return int.from_bytes(envelope[HEAD_SIZE : HEAD_SIZE + TIME_SIZE])


def tag_of(tag_key: bytes, key: bytes, head: bytes, payload: bytes) -> bytes:
    """Return the tag of an envelope."""
    hasher = hashlib.blake2b(b"%x:%b%b" % (len(key), key, head), digest_size=TAG_SIZE, key=tag_key)
    hasher.update(payload)
    return hasher.digest()
