"""An entry is fresh as long as both the writer's and the reader's ttl allow."""

from __future__ import annotations

from typing import Any

import pytest

from model_cache.entries.codec import Codec
from tests.entries.round_trips import KEY
from tests.models import Charges

NOW, TTL = 1_700_000_000_000, 60_000


def timed(ahead: int, **options: Any) -> bytes:
    """An entry whose writer's clock is ahead of `NOW`, by milliseconds."""
    return Codec(Charges, **options).encode(KEY, Charges(charges=1), NOW + ahead + TTL)


def reader(now: float = NOW, ttl: int | None = TTL, **options: Any) -> Codec:
    return Codec(Charges, ttl=ttl, clock=lambda: now / 1000, **options)


def test_an_entry_is_fresh_until_its_time() -> None:
    entry = timed(0)
    assert reader().read(KEY, entry)[:2] == (Charges(charges=1), True)
    assert reader(NOW + TTL - 1).read(KEY, entry).fresh
    assert reader(NOW + TTL).read(KEY, entry)[:2] == (Charges(charges=1), False)


@pytest.mark.parametrize("integrity", [False, True])
def test_an_entry_is_not_fresh_for_longer_than_the_readers_ttl(integrity: bool) -> None:
    entry = timed(3_600_000, integrity=integrity)
    read = reader(integrity=integrity).read(KEY, entry)
    assert read[:2] == (Charges(charges=1), False)  # it still answers if the model raises
    assert reader(ttl=None, integrity=integrity).read(KEY, entry).fresh


def test_a_shorter_ttl_counts_for_the_entries_of_a_longer_one() -> None:
    entry = timed(0)
    assert not reader(ttl=TTL // 2).read(KEY, entry).fresh
    assert reader(NOW + TTL // 2, ttl=TTL // 2).read(KEY, entry).fresh


def test_an_entry_without_a_time_is_fresh() -> None:
    for integrity in (False, True):
        entry = Codec(Charges, integrity=integrity).encode(KEY, Charges(charges=1))
        assert reader(integrity=integrity).read(KEY, entry)[:2] == (Charges(charges=1), True)


def test_an_undecodable_entry_is_not_fresh() -> None:
    for entry in (b"{}", b"{", timed(0)[:-1], b""):
        assert reader().read(KEY, entry)[:2] == (None, False)


def test_the_time_is_eight_bytes_after_the_head() -> None:
    # Entries written by other versions are read by the same layout.
    head, time = b"\xc1\x01\x01\x00\x04", b"\x00\x00\x01\x8b\xcf\xe6\x52\x60"
    entry = head + time + b'{"charges":1.0}'
    assert timed(0) == entry
    assert reader(NOW + TTL - 1).read(KEY, entry)[:2] == (Charges(charges=1), True)
