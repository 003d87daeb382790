"""Redis as a store: each method makes one round trip over RESP.

Every failure is raised as `StoreUnavailableError`, within the caller's timeout. Circuit breaking
is in `guarded`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.protocols import Clock, Timed, Write
from model_cache.stores.dialing import Dialer
from model_cache.stores.plain import PlainRequests
from model_cache.stores.pool import ConnectionPool
from model_cache.stores.replies import FAILURES, Replies, Request, Role
from model_cache.stores.requests import asking, request_of
from model_cache.stores.url import Endpoint

T = TypeVar("T")

_SCAN_COUNT = b"1000"


class RedisStore:
    """A Redis server, the primary behind Sentinels, or a proxy.

    Args:
        endpoint: the address and login.
        requests: what to send to it; by default those of the plain layout.
        timeout: seconds for each request to a Sentinel; connecting may take longer.
        max_connections: the most open connections.
        max_connection_age: seconds after which a connection is replaced.
        clock: seconds, as `time.monotonic`.
        role: how to use a cluster node: a "replica" answers reads itself; an "asking" node
            answers for keys that are being migrated to it.
        dialer: opens the connections; by default a new one.
        hint: added to errors until the first successful connection.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        requests: PlainRequests | None = None,
        timeout: float = 0.1,
        max_connections: int = 50,
        max_connection_age: float = math.inf,
        clock: Clock = time.monotonic,
        role: Role | None = None,
        dialer: Dialer | None = None,
        hint: str = "",
    ) -> None:
        self._endpoint = endpoint
        self._role = role
        self._requests = requests or PlainRequests(
            proxied=endpoint.proxied, in_cluster=role is not None
        )
        dialer = dialer or Dialer(endpoint.tls, timeout)
        connect = dialer.connector(endpoint, reads_replica=role == "replica")
        self._pool = ConnectionPool(connect, max_connections, clock, max_connection_age)
        self._replies = Replies(endpoint, self._pool, role, hint)

    @property
    def proxied(self) -> bool:
        """Whether Redis is behind a proxy, which disconnects on commands that it does not know."""
        return self._endpoint.proxied

    def get(self, key: bytes, timeout: float) -> bytes | None:
        return self._ask(self._requests.get(key), timeout)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._ask(self._requests.set(key, entry, ttl), timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return self._ask(self._requests.get_many(keys), timeout)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        return self._ask(self._requests.get_with_ttl(keys), timeout)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        return self._ask(self._requests.set_watching(entries, watched), timeout)

    def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        self._ask(self._requests.set_many(entries), timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        return self._ask(self._requests.set_if_absent(key, entry, ttl), timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        return self._ask(self._requests.append(key, piece), timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        return self._ask(self._requests.delete(keys), timeout)

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        return self._ask(self._requests.add_counts(key, amounts), timeout)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        if self._endpoint.proxied:
            raise ConfigurationError(
                "proxied", "the proxy does not support SCAN, so keys can't be listed or purged"
            )
        cursor = b"0"
        while True:
            reply = self.execute(timeout, b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCAN_COUNT)
            if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
                raise self._replies.failure(reply)
            cursor, keys = reply
            yield from keys
            if cursor == b"0":
                return

    def execute(self, timeout: float, *words: bytes) -> Any:
        """Return the reply to any command; an `ErrorReply` is returned, not raised."""
        return self.execute_many(timeout, [words])[0]

    def execute_many(self, timeout: float, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Return the replies to commands in one round trip; an `ErrorReply` is not raised."""
        return self._exchange([request_of(*words) for words in commands], timeout)

    def close(self) -> None:
        self._pool.close()

    def _ask(self, request: Request[T], timeout: float) -> T:
        return request.read(self._replies, self._exchange(request.commands, timeout))

    def _exchange(self, commands: list[bytes], timeout: float) -> list[Any]:
        """Return the replies to commands in the bytes of the protocol."""
        count = len(commands)
        if not count:
            return []
        try:
            if self._role != "asking":
                return self._pool.exchange(b"".join(commands), count, timeout)
            return self._pool.exchange(asking(commands), 2 * count, timeout)[1::2]
        except StoreUnavailableError as error:  # connecting failed
            reraise_interruption(error)
            raise self._replies.unavailable(error) from error.__cause__
        except FAILURES as error:
            reraise_interruption(error)
            raise self._replies.unavailable(error) from error
