"""The contracts between the layers: what a store, a serder and a compressor must do.

They are structural: a class of your own needs no base class, only these methods.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel

Clock: TypeAlias = Callable[[], float]
"""Seconds on a clock that never goes back, as `time.monotonic`."""


class Store(Protocol):
    """Keeps entries by key; bytes in, bytes out.

    `timeout` is the time in seconds that a call may take, all in all. A call that can't
    be answered in it raises `StoreUnavailableError`.
    """

    def get(self, key: bytes, timeout: float) -> bytes | None:
        """Return the entry under `key`, or None."""
        ...

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        """Keep `entry` under `key`, for `ttl` milliseconds, or until evicted."""
        ...

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        """Keep `entry` for `ttl` milliseconds, and return True, unless the key is there."""
        ...

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        """Return the entries under `keys`, in their order, by one round trip."""
        ...

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        """Keep each (key, entry, ttl in milliseconds), by one round trip."""
        ...

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        """Delete the entries under `keys`; return how many there were."""
        ...

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        """Yield the keys that match a glob `pattern`; `timeout` is for each round trip."""
        ...

    def close(self) -> None:
        """Close what is open; a later call opens it again."""
        ...


class AsyncStore(Protocol):
    """A `Store` for event loops: each method has an awaitable answer."""

    def get(self, key: bytes, timeout: float) -> Awaitable[bytes | None]:
        """Return the entry under `key`, or None."""
        ...

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> Awaitable[None]:
        """Keep `entry` under `key`, for `ttl` milliseconds, or until evicted."""
        ...

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> Awaitable[bool]:
        """Keep `entry` for `ttl` milliseconds, and return True, unless the key is there."""
        ...

    def get_many(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[bytes | None]]:
        """Return the entries under `keys`, in their order, by one round trip."""
        ...

    def set_many(
        self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float
    ) -> Awaitable[None]:
        """Keep each (key, entry, ttl in milliseconds), by one round trip."""
        ...

    def delete(self, keys: Iterable[bytes], timeout: float) -> Awaitable[int]:
        """Delete the entries under `keys`; return how many there were."""
        ...

    def close(self) -> None:
        """Close what is open, in each event loop; a later call opens it again."""
        ...


@runtime_checkable
class Serder(Protocol):
    """Turns a prediction into bytes and back.

    Attributes:
        name: what the option `serder` calls it.
        id: 1 to 255, the number by which entries name it; ids up to 127 are this library's.
    """

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> int: ...

    def dumps(self, prediction: BaseModel) -> bytes:
        """Return `prediction` as bytes; raise anything if that can't be done."""
        ...

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        """Return the instance of `schema` that `data` holds; raise anything if it holds none."""
        ...


@runtime_checkable
class Compressor(Protocol):
    """Makes bytes fewer, and restores them.

    Attributes:
        name: what the option `use_compression` calls it.
        id: 1 to 255, the number by which entries name it; ids up to 127 are this library's.
    """

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> int: ...

    def compress(self, data: bytes) -> bytes:
        """Return `data`, compressed."""
        ...

    def decompress(self, data: bytes, max_size: int) -> bytes:
        """Return the bytes that `data` holds; raise anything if it is damaged or too large.

        `data` may come from an attacker: no more than about `max_size` bytes may be allocated.
        """
        ...
