"""Where entries are: under keys of their own, and in buckets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from model_cache.cli.permissions import missing_rule
from model_cache.keys.buckets import (
    ENTRIES_A_BUCKET,
    Buckets,
    Place,
    entry_key,
    is_bucket,
    parse_bucket,
)
from model_cache.keys.key import DIGEST_LENGTH
from model_cache.stores.server import RedisStore

# Buckets listed per round trip: each holds about a hundred entries, or many more.
_BATCH = 20


class Located(NamedTuple):
    """The key of an entry, and its place if it is packed."""

    key: bytes
    place: Place | None = None


def entries_at(
    server: RedisStore, timeout: float, miss_rule: Callable[[str], None]
) -> Iterator[Located]:
    """Yield all keys of a server, and the entries of buckets in the place of the buckets.

    Args:
        server: the server.
        timeout: seconds for each round trip.
        miss_rule: is called with ACL rules that the login lacks to list a bucket.
    """
    buckets: list[bytes] = []
    for key in server.scan(b"*", timeout):
        if not is_bucket(key):
            yield Located(key)
            continue
        buckets.append(key)
        if len(buckets) == _BATCH:
            yield from _entries_in(server, buckets, timeout, miss_rule)
            buckets = []
    yield from _entries_in(server, buckets, timeout, miss_rule)


def _entries_in(
    server: RedisStore,
    buckets: Sequence[bytes],
    timeout: float,
    miss_rule: Callable[[str], None],
) -> Iterator[Located]:
    replies = server.execute_many(timeout, [(b"HKEYS", bucket) for bucket in buckets])
    for bucket, fields in zip(buckets, replies, strict=True):
        if not isinstance(fields, list):
            if rule := missing_rule(fields):
                miss_rule(rule)
            continue
        for field in fields:
            key = entry_key(bucket, field)
            yield Located(field if key is None else key, Place(bucket, field))


def locations(servers: Iterable[RedisStore], key: bytes, timeout: float) -> Iterator[Located]:
    """Yield where an entry may be: under its key, or in a bucket of any plan that is in use.

    Args:
        servers: where to look for buckets.
        key: the entry's.
        timeout: seconds for each round trip.
    """
    yield Located(key)
    # A key as a user gives it may hold anything.
    namespace = re.sub(rb"([*?\[\]\\])", rb"\\\1", key[:-DIGEST_LENGTH])
    plans: set[int] = set()
    for server in servers:
        for found in () if server.proxied else server.scan(namespace + b"~*", timeout):
            bucket = parse_bucket(found)
            if bucket is not None and bucket.buckets not in plans:
                plans.add(bucket.buckets)
                place = Buckets(bucket.buckets * ENTRIES_A_BUCKET).place(key)
                if place is not None:
                    yield Located(key, place)
