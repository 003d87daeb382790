"""What the replies and failures of one server mean, however they arrived."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import hiredis

from model_cache.errors import StoreAnsweredError, StoreUnavailableError, WriteRefusedError
from model_cache.interruptions import reraise_interruption
from model_cache.stores.connection import ErrorReply, printable
from model_cache.stores.dialing import tls_hint
from model_cache.stores.url import Address, Endpoint

# What the socket, the parser and Python itself raise, hence what this package's own code may.
# Not `Exception`: a soft time limit of the caller's is none of these.
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
    """A cluster's node says that another one has the key.

    Attributes:
        address: the other one.
        for_good: whether the slot has moved (MOVED), or only this key has (ASK).
    """

    def __init__(self, message: str, kind: str, address: Address) -> None:
        super().__init__(message, kind)
        self.address = address
        self.for_good = kind == "MOVED"


class Connections(Protocol):
    """The connections to one server."""

    @property
    def has_connected(self) -> bool:
        """Whether a connection was ever made."""
        ...

    @property
    def has_answered(self) -> bool:
        """Whether the server ever answered, the login apart."""
        ...

    def retire(self) -> None:
        """Use no connection of now again, since they lead to the wrong server."""
        ...

    def close_idle(self) -> None:
        """Close the connections that nobody is using."""
        ...


class Replies:
    """Reads the replies of one server.

    Args:
        endpoint: where the server is.
        connections: the connections to it.
        role: of a cluster's node.
        hint: is added to errors as long as no connection could be made.
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
        """Return the entry that a GET found."""
        if type(reply) is bytes:
            return reply
        # A key of another type is a miss, too, and SET overwrites it.
        if reply is None or (isinstance(reply, ErrorReply) and reply.code == "WRONGTYPE"):
            return None
        raise self.failure(reply)

    def entries(self, replies: Sequence[Any]) -> list[bytes | None]:
        """Return the entries that GETs found."""
        return [self.entry(reply) for reply in replies]

    def check_written(self, replies: Sequence[Any]) -> None:
        """Raise unless all SETs succeeded."""
        for reply in replies:
            if reply == b"OK":
                continue
            if not isinstance(reply, ErrorReply) or reply.code in ("MOVED", "ASK"):
                raise self.failure(reply)
            if reply.code == "READONLY":
                self._connections.retire()  # no longer a primary; its name may lead to the new one
            raise WriteRefusedError(f"{self._place}: {printable(reply)}", reply.kind)

    def was_set(self, reply: object) -> bool:
        """Return whether a SET with NX set the key."""
        if reply is None:
            return False
        self.check_written([reply])
        return True

    def count(self, replies: Sequence[Any]) -> int:
        """Return how many keys were deleted."""
        deleted = 0
        for reply in replies:
            if type(reply) is not int:
                raise self.failure(reply)
            deleted += reply
        return deleted

    def failure(self, reply: object) -> StoreUnavailableError:
        """The server does not have the key, can't be read from now, or does not speak RESP."""
        redirection = _REDIRECTION.fullmatch(str(reply)) if isinstance(reply, ErrorReply) else None
        if redirection is not None:
            kind, host, port = redirection.groups()
            if self._role is not None:
                return RedirectedError(printable(reply), kind, Address(host, int(port)))
            message = f"{self._place} is a node of a Redis Cluster; use redis+cluster://"
            return StoreUnavailableError(message, kind)
        # Say it was "max number of clients reached": the server is about to close, too.
        self._connections.close_idle()
        kind = reply.kind if isinstance(reply, ErrorReply) else "protocol"
        return StoreUnavailableError(f"{self._place}: {printable(reply)}", kind)

    def unavailable(self, error: Exception) -> StoreUnavailableError:
        """Return the error to raise for one of `FAILURES` or for a failed connect.

        Raises:
            Exception: a signal handler raised the error; it is raised again.
        """
        reraise_interruption(error)
        if isinstance(error, StoreUnavailableError):  # there is no connection
            problem, kind = str(error), error.kind
        elif isinstance(error, TimeoutError):
            problem, kind = "no answer in time", "timeout"
        else:
            problem, kind = f"{error or type(error).__name__}", "connection"
        hint = "" if self._connections.has_answered else tls_hint(error, self._endpoint)
        if self._hint and not self._connections.has_connected:
            hint += f"; {self._hint}"
        return StoreUnavailableError(self._endpoint.masked(f"{self._place}: {problem}{hint}"), kind)
