"""Where an entry lives in the packed layout: which bucket, and which field in it.

A bucket is one Redis hash of about a hundred entries, small enough to stay a listpack. Its key has
as many characters as an entry's, so the same patterns and ACL rules match both. Bucket and field
together hold the whole digest: two keys never share a field.
"""

from __future__ import annotations

import binascii
import re
from binascii import a2b_base64
from typing import NamedTuple

from model_cache.keys.key import DIGEST_LENGTH, TO_BASE64URL, parse_namespace

ENTRIES_A_BUCKET = 100
"""As planned. Chance puts up to about 140 in a bucket; servers convert above 512 or 128."""

_DIGESTS = 2**128
_BRACE = 0x7B  # "{", with which leases begin
# Base64's own "+" and "/" are not in a digest.
_FROM_BASE64URL = bytes.maketrans(b"-_+/", b"+/!!")
# The last of 22 characters holds two bits: others would decode to the same digest.
_LAST = frozenset(b"AQgw")
_BUCKET = re.compile(rb"~([0-9a-f]{8})~([0-9a-f]{12})")


class Place(NamedTuple):
    """A field of a bucket."""

    bucket: bytes
    field: bytes


class BucketKey(NamedTuple):
    """The key of a bucket, taken apart; the parts as the user knows them."""

    prefix: str | None
    qualified_name: str
    version: str
    buckets: int
    number: int


class Buckets:
    """Maps the keys of entries to fields of buckets.

    Args:
        expected_entries: how many entries a namespace is planned to have.
    """

    def __init__(self, expected_entries: int) -> None:
        self.count = -(-expected_entries // ENTRIES_A_BUCKET)
        self._field_size = _field_size(self.count)

    def place(self, key: bytes) -> Place | None:
        """Return where an entry lives; None for a key that is not an entry's."""
        namespace, encoded = key[:-DIGEST_LENGTH], key[-DIGEST_LENGTH:]
        if namespace[-1:] != b"/" or namespace[0] == _BRACE or encoded[-1] not in _LAST:
            return None
        try:
            digest = a2b_base64(encoded.translate(_FROM_BASE64URL) + b"==", strict_mode=True)
        except binascii.Error:
            return None
        rest, number = divmod(int.from_bytes(digest), self.count)
        bucket = b"%b~%08x~%012x" % (namespace, self.count, number)
        return Place(bucket, rest.to_bytes(self._field_size))


def is_bucket(key: bytes) -> bool:
    """Whether a key is that of a bucket."""
    return parse_bucket(key) is not None


def parse_bucket(key: bytes) -> BucketKey | None:
    """Take the key of a bucket apart; None if it is not exactly of that form."""
    head, _, name = key.rpartition(b"/")
    match = _BUCKET.fullmatch(name)
    parts = parse_namespace(head) if match else None
    if match is None or parts is None:
        return None
    count, number = int(match[1], 16), int(match[2], 16)
    return BucketKey(*parts, count, number) if number < count else None


def entry_key(bucket: bytes, field: bytes) -> bytes | None:
    """Return the key of the entry in a field of a bucket; None if it is not an entry's field."""
    parsed = parse_bucket(bucket)
    if parsed is None or len(field) != _field_size(parsed.buckets):
        return None
    digest = int.from_bytes(field) * parsed.buckets + parsed.number
    if digest >= _DIGESTS:
        return None
    encoded = binascii.b2a_base64(digest.to_bytes(16), newline=False)
    return bucket[:-DIGEST_LENGTH] + encoded.translate(TO_BASE64URL, b"=")


def _field_size(buckets: int) -> int:
    return (((_DIGESTS - 1) // buckets).bit_length() + 7) // 8
