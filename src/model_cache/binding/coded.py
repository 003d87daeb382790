"""What all bindings do alike: keys from canonical bytes, entries from predictions and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from model_cache.entries.codec import Codec, Read
from model_cache.keys.key import KeyMaker


class Coded:
    """The base of bindings whose predictions have keys and entries.

    Attributes:
        codec: converts predictions to entries and back.
    """

    codec: Codec
    _keys: KeyMaker

    def key(self, canonical: bytes) -> bytes:
        """Return the key for an input, from its canonical bytes."""
        return self._keys.key_of(canonical)

    def keys(self, head: bytes, tails: Iterable[bytes]) -> list[bytes]:
        """Return the keys for inputs whose canonical bytes have the same beginning."""
        return self._keys.keys_of(head, tails)

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return an entry's prediction, if it can be decoded, and whether it is fresh."""
        return self.codec.read(key, entry)

    def reader(self, key: bytes, entry: bytes) -> Callable[[], Any]:
        """Return a function that decodes an entry to a new object each time."""
        return self.codec.reader(key, entry)

    def fresh_for(self, entry: bytes) -> float | None:
        """Return how many seconds a fresh entry stays fresh; None for ever."""
        return self.codec.fresh_for(entry)

    def encode(self, key: bytes, prediction: Any, fresh_until: int | None = None) -> bytes:
        """Return a prediction as an entry.

        Raises:
            EntryRefusedError: the prediction can't be stored.
        """
        return self.codec.encode(key, prediction, fresh_until)
