"""Delete many entries in batches, so that no request is large and no server is blocked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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


def delete_all(store: Store, keys: Sequence[bytes], timeout: float) -> int:
    """Delete keys and return how many of them existed.

    Args:
        store: the store.
        keys: the keys to delete.
        timeout: seconds for each batch.

    Raises:
        StoreUnavailableError: the store failed; some keys may remain.
    """
    deleted = 0
    for start in range(0, len(keys), _AT_ONCE):
        batch = keys[start : start + _AT_ONCE]
        deleted += store.delete(batch, timeout)
    return deleted
