"""Redis as a store for event loops; see `server` for the same from threads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from model_cache.errors import StoreUnavailableError
from model_cache.stores.dialing import Dialer
from model_cache.stores.links import Links
from model_cache.stores.replies import FAILURES, Replies, Role
from model_cache.stores.requests import (
    ASKING,
    get_request,
    request_of,
    set_if_absent_request,
    set_request,
)
from model_cache.stores.url import Endpoint


class AsyncRedisStore:
    """One Redis server, or the primary that Sentinels know, or what a proxy stands for.

    Args:
        endpoint: where it is.
        timeout: seconds for each question to a Sentinel; connecting may take longer.
        max_connection_age: seconds after which a connection is replaced.
        role: of a cluster's node, which may redirect; see `RedisStore`.
        dialer: opens the connections; by default one of its own.
        hint: is added to errors as long as no connection could be made.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float = 0.1,
        max_connection_age: float = math.inf,
        role: Role | None = None,
        dialer: Dialer | None = None,
        hint: str = "",
    ) -> None:
        self._delete = b"DEL" if endpoint.proxied else b"UNLINK"
        dialer = dialer or Dialer(endpoint.tls, timeout)
        is_asking = role == "asking"
        self._links = Links(
            dialer.connector(endpoint, reads_replica=role == "replica"),
            max_age=max_connection_age,
            prefix=ASKING if is_asking else b"",
            skip=int(is_asking),
        )
        self._replies = Replies(endpoint, self._links, role, hint)

    async def get(self, key: bytes, timeout: float) -> bytes | None:
        reply = await self._exchange(get_request(key), 1, timeout)
        return reply if type(reply) is bytes else self._replies.entry(reply)

    async def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        reply = await self._exchange(set_request(key, entry, ttl), 1, timeout)
        self._replies.check_written([reply])

    async def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        request = set_if_absent_request(key, entry, ttl)
        return self._replies.was_set(await self._exchange(request, 1, timeout))

    async def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        replies = await self._exchange_each([get_request(key) for key in keys], timeout)
        return [self._replies.entry(reply) for reply in replies]

    async def set_many(
        self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float
    ) -> None:
        requests = [set_request(*entry) for entry in entries]
        self._replies.check_written(await self._exchange_each(requests, timeout))

    async def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        requests = [request_of(self._delete, key) for key in keys]
        return self._replies.count(await self._exchange_each(requests, timeout))

    def close(self) -> None:
        self._links.close()

    async def _exchange(self, request: bytes, replies: int, timeout: float) -> Any:
        try:
            return await self._links.exchange(request, replies, timeout)
        except StoreUnavailableError as error:  # there is no connection
            raise self._replies.unavailable(error) from error.__cause__
        except FAILURES as error:
            raise self._replies.unavailable(error) from error

    async def _exchange_each(self, requests: list[bytes], timeout: float) -> list[Any]:
        if not requests:
            return []
        replies = await self._exchange(b"".join(requests), len(requests), timeout)
        return replies if len(requests) > 1 else [replies]
