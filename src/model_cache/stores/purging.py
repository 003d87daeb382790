"""Delete many entries in batches, so that no request is large and no server is blocked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from model_cache.errors import WriteRefusedError
from model_cache.protocols import Store

_AT_ONCE = 500


@contextmanager
def unless_full() -> Iterator[None]:
    """Ignore that Redis is full: it accepts no writes until the purge has deleted something."""
    try:
        yield
    except WriteRefusedError as error:
        if error.kind != "OOM":
            raise


def delete_all(store: Store, keys: Iterable[bytes], timeout: float) -> int:
    """Delete keys and return how many of them existed.

    Args:
        store: the store.
        keys: the keys to delete, read as they are deleted: there may be many millions.
        timeout: seconds for each batch.

    Raises:
        StoreUnavailableError: the store failed; some keys may remain.
    """
    deleted, rest = 0, iter(keys)
    while batch := list(islice(rest, _AT_ONCE)):
        deleted += store.delete(batch, timeout)
    return deleted
