"""The protocols of stores, serders and compressors.

They are structural: your own class needs only these methods, not a base class.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel

Clock: TypeAlias = Callable[[], float]
"""Returns seconds on a clock that never goes back, as `time.monotonic`."""

Write: TypeAlias = tuple[bytes, bytes, int | None]
"""A key, its entry, and its time to live in milliseconds; None for until evicted."""

Timed: TypeAlias = tuple[bytes | None, int | None]
"""An entry, and its remaining time to live in milliseconds; None if it does not expire."""


class Store(Protocol):
    """Stores entries by key, both as bytes.

    `timeout` is the total time of a call in seconds. A call that takes longer raises
    `StoreUnavailableError`.
    """

    @property
    def state(self) -> str:
        """The state of its circuit breakers, as in `Stats.store`."""
        ...

    def get(self, key: bytes, timeout: float) -> bytes | None:
        """Return the entry of `key`, or None."""
        ...

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        """Store `entry` under `key`, for `ttl` milliseconds or until evicted."""
        ...

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        """Do as `set` unless the key exists; return whether it did not."""
        ...

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        """Append `piece` to the value of `key`, atomically; return the value's new length."""
        ...

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        """Return the entries of `keys`, in the same order, in one round trip."""
        ...

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        """Return the entries of `keys`, each with its remaining ttl.

        By one round trip, which reads the first key before the others.
        """
        ...

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        """Store entries, then return the value of `watched`."""
        ...

    def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        """Store entries in one round trip."""
        ...

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        """Delete the entries of `keys`; return how many existed."""
        ...

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        """Add to the fields of a hash, and return all of its fields, in one round trip."""
        ...

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        """Yield the keys that match a glob `pattern`; `timeout` applies to each round trip."""
        ...

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        ...


class AsyncStore(Protocol):
    """The methods of a `Store` that a prediction in an event loop needs; they return awaitables."""

    def get(self, key: bytes, timeout: float) -> Awaitable[bytes | None]: ...

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> Awaitable[None]: ...

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> Awaitable[bool]: ...

    def append(self, key: bytes, piece: bytes, timeout: float) -> Awaitable[int]: ...

    def get_many(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[bytes | None]]: ...

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[Timed]]: ...

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> Awaitable[bytes | None]: ...

    def set_many(self, entries: Sequence[Write], timeout: float) -> Awaitable[None]: ...

    def delete(self, keys: Iterable[bytes], timeout: float) -> Awaitable[int]: ...

    def close(self) -> None:
        """Close the connections of all event loops; a later call opens them again."""
        ...


@runtime_checkable
class Serder(Protocol):
    """Converts a prediction to bytes and back.

    Attributes:
        name: its name for the option `serder`.
        id: its id in entries, 1 to 255; ids up to 127 are reserved for this library.
    """

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> int: ...

    def dumps(self, prediction: BaseModel) -> bytes:
        """Return `prediction` as bytes; raise any exception if that is not possible."""
        ...

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        """Return the instance of `schema` in `data`; raise any exception if it is not valid."""
        ...


@runtime_checkable
class Compressor(Protocol):
    """Compresses bytes and decompresses them.

    Attributes:
        name: its name for the option `use_compression`.
        id: its id in entries, 1 to 255; ids up to 127 are reserved for this library.
    """

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> int: ...

    def compress(self, data: bytes) -> bytes:
        """Return `data`, compressed."""
        ...

    def decompress(self, data: bytes, max_size: int) -> bytes:
        """Return `data`, decompressed; raise any exception if it is damaged or too large.

        `data` is untrusted: allocate no more than about `max_size` bytes.
        """
        ...
