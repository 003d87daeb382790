"""How a connection is made: by redis-py, to a server, a socket, a TLS port or a primary.

Resolving, TLS, the login and SELECT are redis-py's business; what is sent afterwards is not known
here, nor who waits for the connection, and how long.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.driver_info import DriverInfo
from redis.retry import Retry

from model_cache.endpoint import Endpoint
from model_cache.errors import ConfigurationError
from model_cache.interruptions import reraise_interruption
from model_cache.redaction import without_traceback
from model_cache.stores.connections import Connect, Connection
from model_cache.tls import TLS

# Late connections are kept, so a login or a TLS handshake may take longer than a prediction may.
_CONNECT_TIMEOUT = 5.0


def connector(endpoint: Endpoint, timeout: float, *, reads_replica: bool = False) -> Connect:
    """Return what opens connections to an endpoint.

    Args:
        endpoint: where to, and as whom. Of Sentinels, the primary is asked for each time.
        timeout: seconds that each question to a Sentinel may take; the steps of a connect may
            take longer, and its caller waits no longer than it likes.
        reads_replica: whether a cluster's replica is to answer reads itself.

    Raises:
        ConfigurationError: a certificate that can't be loaded.
    """
    options: dict[str, Any] = {
        **_plainly(max(timeout, _CONNECT_TIMEOUT)),
        "db": endpoint.database,
        **_login(endpoint.username, endpoint.password),
    }
    client: Any = redis.Connection
    if endpoint.tls is not None:
        client = _TLSConnection
        options["context"] = _tls_context(endpoint.tls)
    if endpoint.path is not None:
        client = UnixDomainSocketConnection
        options["path"] = endpoint.path
    elif not endpoint.sentinels:
        options |= {"host": endpoint.host, "port": endpoint.port}
    primary = _primary_finder(endpoint, timeout) if endpoint.sentinels else dict

    def connect() -> Connection:
        try:
            connection = Connection(client(**options, **primary()))
        except Exception as error:
            reraise_interruption(error)
            raise without_traceback(error)  # noqa: B904 - it is the same error
        if reads_replica:
            try:
                (reply,) = connection.exchange(b"READONLY\r\n", 1, _CONNECT_TIMEOUT, time.monotonic)
                if reply != b"OK":
                    raise redis.ResponseError(str(reply))
            except BaseException:
                connection.close()
                raise
        return connection

    return connect


# A TLS server answers plain text with an alert, whose first byte is no type of a reply; a plain
# server answers a TLS handshake with plain text, or waits for the end of a line.
_ALERT = '"\\x15"'
_PLAIN_TEXT = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


def tls_hint(error: Exception, endpoint: Endpoint) -> str:
    """Return what to change if client and server may disagree about TLS, else nothing.

    For errors of a server that has never answered.
    """
    text = str(error)
    if endpoint.tls is None:
        if endpoint.path is None and _ALERT in text:
            return "; the server speaks TLS: use a url that begins with rediss, not redis"
        closed = isinstance(error, ConnectionResetError) or "reset by" in text or "closed" in text
        if endpoint.path is None and closed:
            return "; if the server speaks TLS, use a url that begins with rediss, not redis"
    elif any(reason in text for reason in _PLAIN_TEXT):
        return "; the server does not speak TLS: use a url that begins with redis, not rediss"
    elif isinstance(error, (TimeoutError, redis.TimeoutError)):
        return "; if the server does not speak TLS, use a url that begins with redis, not rediss"
    return ""


class _Login:
    """What redis-py asks for the login, so that nothing else holds the password in clear."""

    def __init__(self, username: str | None, password: SecretStr) -> None:
        self._username = username
        self._password = password

    def get_credentials(self) -> tuple[str, ...]:
        password = self._password.get_secret_value()
        return (password,) if self._username is None else (self._username, password)


def _login(username: str | None, password: SecretStr | None) -> dict[str, Any]:
    return {} if password is None else {"credential_provider": _Login(username, password)}


def _plainly(timeout: float) -> dict[str, Any]:
    """Options for redis-py: no retries, and nothing said that was not asked for."""
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # redis-py retries ten times by default: seconds per call.
        "retry": Retry(NoBackoff(), 0),
        # RESP2 and no CLIENT SETINFO: no handshake where there is no login and no SELECT, and
        # a server that pushes nothing between two replies. A proxy closes on HELLO or CLIENT.
        # An empty DriverInfo, since redis-py 7 takes None for its own default.
        "protocol": 2,
        "driver_info": DriverInfo(name="", lib_version=""),
    }


def _primary_finder(endpoint: Endpoint, timeout: float) -> Callable[[], dict[str, Any]]:
    """Return what asks the Sentinels where the primary is, as options for redis-py."""
    options: dict[str, Any] = {
        **_plainly(timeout),
        **_login(endpoint.sentinel_username, endpoint.sentinel_password),
    }
    if endpoint.tls is not None:
        options |= _tls_options(endpoint.tls)

    sentinel_client: Any = redis.Sentinel  # redis-py does not type it

    def primary() -> dict[str, Any]:
        sentinels: Any = sentinel_client(list(endpoint.sentinels), sentinel_kwargs=options)
        try:
            host, port = sentinels.discover_master(endpoint.service)
        finally:
            for sentinel in sentinels.sentinels:
                sentinel.close()
        return {"host": host, "port": port}

    return primary


def _tls_options(tls: TLS) -> dict[str, Any]:
    return {
        "ssl": True,
        "ssl_ca_certs": tls.ca_certs,
        "ssl_certfile": tls.certfile,
        "ssl_keyfile": tls.keyfile,
        "ssl_cert_reqs": tls.cert_reqs,
        "ssl_check_hostname": tls.check_hostname,
    }


class _TLSConnection(SSLConnection):
    """redis-py's, with one context for all connections: making one costs 23 ms of CPU."""

    def __init__(self, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._context = context

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._context.wrap_socket(sock, server_hostname=self.host)


def _no_pass_phrase() -> str:
    raise ValueError("the key is encrypted; give one that is not")


def _tls_context(tls: TLS) -> ssl.SSLContext:
    option = "ssl_ca_certs"
    try:
        context = ssl.create_default_context(cafile=tls.ca_certs)
        if tls.certfile is not None:
            option = "ssl_certfile"
            # OpenSSL would ask for the pass phrase on the terminal.
            context.load_cert_chain(tls.certfile, tls.keyfile, password=_no_pass_phrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigurationError(option, f"can't be loaded: {error}") from error
    context.check_hostname = tls.check_hostname
    if tls.cert_reqs == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
