"""The meaning of one server's replies and failures, for threads and for event loops."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import hiredis

from model_cache.errors import (
    StoreAnsweredError,
    StoreUnavailableError,
    WriteRefusedError,
    said_by,
)
from model_cache.interruptions import reraise_interruption
from model_cache.stores.connection import ErrorReply, Reached, printable
from model_cache.stores.dialing import tls_hint
from model_cache.stores.url import Address, Endpoint

logger = logging.getLogger("model_cache")

# What the socket, the parser and our own code may raise.
# Not `Exception`: a caller's soft time limit must get through.
FAILURES = (
    OSError,
    hiredis.HiredisError,
    ArithmeticError,
    AttributeError,
    BufferError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
_REDIRECTION = re.compile(r"(MOVED|ASK) \d+ (.*):(\d{1,5})")

Role: TypeAlias = Literal["primary", "replica", "asking"]


class RedirectedError(StoreAnsweredError):
    """A cluster node redirects a key to another node.

    Attributes:
        address: the other node.
        for_good: True if the slot has moved (MOVED), False if only this key has (ASK).
    """

    def __init__(self, message: str, kind: str, address: Address) -> None:
        super().__init__(message, kind)
        self.address = address
        self.for_good = kind == "MOVED"


class Connections(Protocol):
    """The connections to one server.

    Attributes:
        reached: what is known about the server.
    """

    reached: Reached

    def retire(self) -> None:
        """Stop using the current connections, which lead to the wrong server."""
        ...

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
        ...


class Replies:
    """Reads the replies of one server.

    Args:
        endpoint: the server's address.
        connections: the connections to it.
        role: how to use a cluster node; see `RedisStore`.
        hint: added to errors until the first successful connection.
    """

    def __init__(
        self, endpoint: Endpoint, connections: Connections, role: Role | None, hint: str
    ) -> None:
        self._place = str(endpoint)
        self._endpoint = endpoint
        self._connections = connections
        self._role = role
        self._hint = hint

    def entry(self, reply: object) -> bytes | None:
        """Return the entry that a reply holds, or None.

        Raises:
            StoreUnavailableError: the reply is an error.
        """
        if type(reply) is bytes:
            return reply
        # A key of another type is also a miss; SET overwrites it.
        if reply is None or (isinstance(reply, ErrorReply) and reply.code == "WRONGTYPE"):
            return None
        raise self.failure(reply)

    def entries(self, *replies: object) -> list[bytes | None]:
        """Return the entries that replies to GETs hold."""
        return [self.entry(reply) for reply in replies]

    def listed(self, reply: object, count: int) -> list[bytes | None]:
        """Return the entries in the reply to an MGET of `count` keys."""
        if not (isinstance(reply, list) and len(reply) == count):
            raise self.failure(reply)
        return reply

    def warn_of_pttl(self) -> None:
        """Log that the login may not read times to live."""
        try:
            logger.warning(
                "The near cache does not store hits from Redis: the login at %s may not run PTTL; "
                "grant +pttl and restart",
                self._place,
            )
        except Exception as error:  # from a logging filter
            reraise_interruption(error)

    def check_written(self, *replies: object) -> None:
        """Raise unless the replies say that everything was written.

        Raises:
            StoreUnavailableError: one of them is an error.
        """
        for reply in replies:
            if type(reply) is int or reply == b"OK":  # -bb forbids int == bytes
                continue
            if not isinstance(reply, ErrorReply) or reply.code in ("MOVED", "ASK"):
                raise self.failure(reply)
            if reply.code == "READONLY":
                # No longer the primary; its name may resolve to the new one.
                self._connections.retire()
            raise WriteRefusedError(f"{self._place}: {printable(reply)}", reply.kind)

    def watched(self, *replies: object) -> bytes | None:
        """Return what the last reply, to a GET, holds; the others are those of writes."""
        *written, found = replies
        self.check_written(*written)
        return self.entry(found)

    def was_set(self, reply: object) -> bool:
        """Return whether a SET with NX has set the key."""
        if reply is None:
            return False
        self.check_written(reply)
        return True

    def length(self, reply: object) -> int:
        """Return what the reply to an APPEND holds."""
        self.check_written(reply)
        return self.count(reply)

    def count(self, *replies: object) -> int:
        """Return the sum of replies that are numbers.

        Raises:
            StoreUnavailableError: one of them is an error.
        """
        count = 0
        for reply in replies:
            if type(reply) is not int:
                raise self.failure(reply)
            count += reply
        return count

    def deleted(
        self, keys: Sequence[bytes], sizes: Mapping[bytes, object], replies: Sequence[object]
    ) -> int:
        """Return how many entries were deleted.

        Args:
            keys: the keys.
            sizes: the number of entries in each key that is a bucket.
            replies: the reply for each key: whether it was there.
        """
        return sum(
            size if reply and isinstance(size := sizes.get(key), int) else self.count(reply)
            for key, reply in zip(keys, replies, strict=True)
        )

    def page(self, reply: Any) -> tuple[bytes, list[bytes]]:
        """Return the next cursor and the keys in the reply to a SCAN."""
        if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
            raise self.failure(reply)
        return reply[0], reply[1]

    def counts(self, *replies: Any) -> Mapping[bytes, bytes]:
        """Return the fields of a hash, from the replies to HINCRBYs and a HGETALL."""
        reply = replies[-1]
        for each in replies:
            if isinstance(each, ErrorReply):
                if each.code in ("MOVED", "ASK"):
                    raise self.failure(each)
                # The idle connections stay: predictions need them, and may be allowed more.
                raise StoreAnsweredError(f"{self._place}: {printable(each)}", each.kind)
        if isinstance(reply, list):  # RESP2
            return dict(zip(reply[::2], reply[1::2], strict=True))
        if not isinstance(reply, dict):
            raise self.failure(reply)
        return reply

    def failure(self, reply: object) -> StoreUnavailableError:
        """Return the error for a redirection, an error reply, or a reply of the wrong type."""
        redirection = _REDIRECTION.fullmatch(str(reply)) if isinstance(reply, ErrorReply) else None
        if redirection is not None:
            kind, host, port = redirection.groups()
            if self._role is not None:
                return RedirectedError(printable(reply), kind, Address(host, int(port)))
            message = f"{self._place} is a node of a Redis Cluster; use redis+cluster://"
            return StoreUnavailableError(message, kind)
        # After "max number of clients reached", for example, the server closes the connection.
        self._connections.close_idle()
        kind = reply.kind if isinstance(reply, ErrorReply) else "protocol"
        return StoreUnavailableError(f"{self._place}: {printable(reply)}", kind)

    def unavailable(self, error: Exception) -> StoreUnavailableError:
        """Return the error to raise for one of `FAILURES` or for a failed attempt to connect."""
        if isinstance(error, StoreUnavailableError):  # it could not connect
            problem, kind = str(error), error.kind
        elif isinstance(error, TimeoutError):
            problem, kind = "timed out", "timeout"
        else:
            problem, kind = said_by(error), "connection"
        hint = "" if self._connections.reached.has_answered else tls_hint(error, self._endpoint)
        if self._hint and not self._connections.reached.has_connected:
            hint += f"; {self._hint}"
        return StoreUnavailableError(self._endpoint.masked(f"{self._place}: {problem}{hint}"), kind)
