"""Open connections: find the primary, resolve, connect, encrypt, log in, select the database.

All of it runs on its own thread, so it may take longer than a prediction's timeout.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import SecretStr

from model_cache.errors import StoreUnavailableError, said_by
from model_cache.interruptions import reraise_interruption
from model_cache.redaction import without_traceback
from model_cache.stores.access import AddressMap, CredentialProvider
from model_cache.stores.certificates import Certificates
from model_cache.stores.connection import Connection, ErrorReply, command_of, printable
from model_cache.stores.pool import Connect
from model_cache.stores.tls import TLS
from model_cache.stores.url import Address, Endpoint

# Longer than a prediction's timeout: a connection that arrives late goes to the pool.
_CONNECT_TIMEOUT = 5.0
# Parts of an error reply that are safe to quote.
_REASONS = (
    "max number of clients reached",
    "protected mode",
    "without any password configured",
    "user is disabled",
    "invalid username-password pair",
)


class Dialer:
    """Opens connections to the servers of one endpoint.

    Args:
        tls: the TLS options; None for no TLS.
        timeout: seconds for each request to a Sentinel. Connecting may take longer.
        credentials: returns the current login, which replaces the endpoint's own.
        address_map: translates an announced address to the one to connect to.

    Raises:
        ConfigurationError: a certificate that can't be loaded.
    """

    def __init__(
        self,
        tls: TLS | None,
        timeout: float = 0.1,
        *,
        credentials: CredentialProvider | None = None,
        address_map: AddressMap | None = None,
    ) -> None:
        self._certificates = None if tls is None else Certificates(tls)
        self._timeout = timeout
        self._connect_timeout = max(timeout, _CONNECT_TIMEOUT)
        self._credentials = credentials
        self._address_map = address_map

    def connector(self, endpoint: Endpoint, *, reads_replica: bool = False) -> Connect:
        """Return a function that opens connections to an endpoint.

        Args:
            endpoint: where to connect. With Sentinels, it looks up the primary each time.
            reads_replica: whether to send READONLY, so that a cluster's replica answers reads.
        """
        return partial(self._connect, endpoint, reads_replica)

    def _connect(self, endpoint: Endpoint, reads_replica: bool) -> Connection:
        if endpoint.path is not None:
            sock = _unix_socket(endpoint.path, self._connect_timeout)
        elif endpoint.sentinels:
            sock = self._dial(self._primary(endpoint), self._connect_timeout)
        else:
            sock = self._dial(Address(endpoint.host, endpoint.port), self._connect_timeout)
        connection = Connection(sock)
        try:
            ask = partial(_ask, connection, self._connect_timeout)
            _log_in(ask, *self._login(endpoint))
            if endpoint.database:
                _expect_ok(ask(b"SELECT", b"%d" % endpoint.database))
            if reads_replica:
                _expect_ok(ask(b"READONLY"))
        except BaseException:
            connection.close()
            raise
        return connection

    def _login(self, endpoint: Endpoint) -> tuple[str | None, SecretStr | None]:
        """Return the username and password; either may be None."""
        if self._credentials is None:
            return endpoint.username, endpoint.password
        try:
            *user, password = self._credentials.get_credentials()
        except Exception as error:
            message = f"credential_provider raised {type(error).__name__}: {error!s:.200}"
            raise StoreUnavailableError(message, "credentials") from error
        return (user[0] if user else None), SecretStr(password)

    def _dial(self, address: Address, timeout: float) -> socket.socket:
        if self._address_map is not None:
            try:
                address = Address(*self._address_map(address))
            except Exception as error:
                message = f"address_map raised {type(error).__name__}: {error!s:.200}"
                raise StoreUnavailableError(message, "connection") from error
        sock = socket.create_connection(address, timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._encrypted(sock, address.host)
        except BaseException:
            sock.close()
            raise

    def _encrypted(self, sock: socket.socket, host: str) -> socket.socket:
        if self._certificates is None:
            return sock
        try:
            return self._certificates.context().wrap_socket(sock, server_hostname=host)
        except ssl.SSLCertVerificationError:
            raise
        except OSError as error:
            message = f"the TLS handshake failed ({said_by(error)})"
            kind = "timeout" if isinstance(error, TimeoutError) else "connection"
            raise StoreUnavailableError(message, kind) from error

    def _primary(self, endpoint: Endpoint) -> Address:
        """Return the address of the primary from the first Sentinel that knows it."""
        said, kind = [], "connection"
        for sentinel in endpoint.sentinels:
            try:
                found = self._ask_sentinel(sentinel, endpoint)
            except (OSError, StoreUnavailableError) as error:
                said.append(f"{sentinel}: {said_by(error)}")
                kind = error.kind if isinstance(error, StoreUnavailableError) else kind
            else:
                if found is not None:
                    return found
                said.append(f"{sentinel}: no such service")
        raise StoreUnavailableError(
            f"no Sentinel knows the primary of {endpoint.service!r}: {'; '.join(said)}", kind
        )

    def _ask_sentinel(self, sentinel: Address, endpoint: Endpoint) -> Address | None:
        connection = Connection(self._dial(sentinel, self._timeout))
        try:
            ask = partial(_ask, connection, self._timeout)
            _log_in(ask, endpoint.sentinel_username, endpoint.sentinel_password)
            service = (endpoint.service or "").encode()
            reply = ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service)
        finally:
            connection.close()
        if reply is None:
            return None
        if not (isinstance(reply, list) and len(reply) == 2):
            raise _refused(reply)
        host, port = reply
        return Address(host.decode(), int(port))


def _unix_socket(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _ask(connection: Connection, timeout: float, *words: bytes) -> Any:
    return connection.exchange(command_of(*words), 1, timeout, time.monotonic)[0]


def _log_in(ask: Callable[..., Any], user: str | None, password: SecretStr | None) -> None:
    if password is None:
        return
    try:
        reply = _auth(ask, user, password)
    except Exception as error:
        reraise_interruption(error)
        raise without_traceback(error)  # noqa: B904 - it is the same error
    if reply != b"OK":
        # Don't quote the reply: a server without AUTH echoes the password.
        kind = reply.kind if isinstance(reply, ErrorReply) else "protocol"
        reasons = [reason for reason in _REASONS if reason in printable(reply)]
        message = f"login refused by the server ({': '.join([kind, *reasons])})"
        raise StoreUnavailableError(message, kind)


def _auth(ask: Callable[..., Any], user: str | None, password: SecretStr) -> Any:
    words = [part.encode() for part in (user, password.get_secret_value()) if part is not None]
    reply = ask(b"AUTH", *words)
    if len(words) == 2 and "wrong number of arguments" in printable(reply):  # Redis before 6
        reply = ask(b"AUTH", words[1])
    return reply


def _expect_ok(reply: object) -> None:
    if reply != b"OK":
        raise _refused(reply)


def _refused(reply: object) -> StoreUnavailableError:
    kind = reply.kind if isinstance(reply, ErrorReply) else "protocol"
    return StoreUnavailableError(printable(reply), kind)


# A TLS server answers plain text with an alert, whose first byte is not a RESP type; a plain
# server answers a TLS handshake with plain text, or waits for the end of a line.
_ALERT = '"\\x15"'
_PLAIN_TEXT = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


def tls_hint(error: Exception, endpoint: Endpoint) -> str:
    """Return what to change if the client and the server seem to disagree about TLS, else "".

    Only meaningful for a server that has never answered.
    """
    text = str(error)
    if endpoint.tls is None:
        if endpoint.path is None and _ALERT in text:
            return "; the server requires TLS: use rediss:// instead of redis://"
        closed = isinstance(error, ConnectionResetError) or "reset by" in text or "closed" in text
        if endpoint.path is None and closed:
            return "; if the server requires TLS, use rediss:// instead of redis://"
    elif "mismatch, certificate is not valid for" in text:  # the host's name or IP address
        return "; if you expect another name, set ssl_check_hostname to false"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        return "; set ssl_ca_certs to the server's authority, or ssl_cert_reqs to none"
    elif any(reason in text for reason in _PLAIN_TEXT):
        return "; the server does not use TLS: use redis:// instead of rediss://"
    elif isinstance(error, TimeoutError) or getattr(error, "kind", "") == "timeout":
        return "; if the server does not use TLS, use redis:// instead of rediss://"
    return ""
