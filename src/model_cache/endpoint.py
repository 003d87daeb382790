"""Where Redis is, and as whom to go there: the `url` option, taken apart.

Nothing is opened here, and no secret ever shows in a repr or an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from model_cache.errors import ConfigurationError, did_you_mean


class DefaultText(str):
    """A default that is told apart from the same text, given."""

    __slots__ = ()


class DefaultNumber(int):
    """A default that is told apart from the same number, given."""


DEFAULT = (DefaultText, DefaultNumber)

SCHEMES = ("redis", "rediss", "unix", "embedded")

# The query parameters of rediss://, named as in redis-py's urls.
_TLS_PARAMETERS = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)


@dataclass(frozen=True)
class TLS:
    """How to check the server's certificate, and which to show.

    Attributes:
        ca_certs: a file of certificates to trust; None for the system's.
        certfile: the client's certificate, if the server asks for one.
        keyfile: its key.
        cert_reqs: "required", or "none" for no check at all.
        check_hostname: whether the certificate must be for the host that was asked for.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cert_reqs: str = "required"
    check_hostname: bool = True


@dataclass(frozen=True)
class Endpoint:
    """An address of Redis and the login there.

    Attributes:
        host: a name or an address; not used with `path`.
        port: the TCP port.
        database: the number to SELECT.
        path: of a unix socket.
        username: of the ACL user.
        password: its password.
        tls: how to encrypt; None for not at all.
        embedded: a server of this process's own, to be started; nothing else counts then.
    """

    host: str = "localhost"
    port: int = 6379
    database: int = 0
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TLS | None = None
    embedded: bool = False

    def with_login(self, username: str | None, password: str | None) -> Endpoint:
        """Return the same endpoint with a login from elsewhere, say, from a secret."""
        if password is None:
            return self
        if self.embedded:
            raise ConfigurationError("password", "the embedded server has none")
        if self.password is not None:
            raise ConfigurationError("password", "is given twice: here and in the url")
        return replace(self, username=username or self.username, password=password)


def masked_url(url: str) -> str:
    """Return a url, well-formed or not, without its password."""
    hidden = re.sub(r"(?s)^([\w+.-]*://)?.*@", r"\1***@", url)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", hidden)


def parse_url(option: str, url: object) -> Endpoint:
    """Take a url apart.

    Raises:
        ConfigurationError: it is malformed; the message shows it without its password.
    """
    if not isinstance(url, str) or "://" not in url:
        shown = masked_url(url) if isinstance(url, str) else url
        raise ConfigurationError(option, f"{shown!r} is not a url such as redis://localhost:6379/0")

    def wrong(problem: str) -> ConfigurationError:
        return ConfigurationError(option, f"{masked_url(url)!r}: {problem}")

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong("its host or port is malformed; ports are from 1 to 65535") from None
    if parts.scheme not in SCHEMES:
        raise wrong(f"scheme {parts.scheme!r} is not known; {did_you_mean(parts.scheme, SCHEMES)}")
    if port == 0:
        raise wrong("port 0 is not one to connect to; ports are from 1 to 65535")
    if parts.fragment:
        raise wrong("a '#' in a password is written %23")
    query = _query(parts, wrong)
    if parts.scheme == "embedded":
        if parts.netloc or parts.path.strip("/") or query:
            raise wrong("embedded:// stands alone")
        return Endpoint(embedded=True)
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else query.pop("password", None)
    if username and not password:
        raise wrong("a user needs a password: redis://user:password@host")
    if parts.scheme == "unix":
        if not parts.path.strip("/") or parts.hostname:
            raise wrong("a socket's path is absolute: unix:///run/redis.sock")
        return Endpoint(
            path=unquote(parts.path),
            database=_database(query, "", wrong),
            username=username,
            password=password,
        )
    return Endpoint(
        host=parts.hostname or "localhost",
        port=port or 6379,
        database=_database(query, parts.path.strip("/"), wrong),
        username=username,
        password=password,
        tls=_tls(query, wrong) if parts.scheme == "rediss" else None,
    )


def _query(parts: SplitResult, wrong: Any) -> dict[str, str]:
    allowed = ["db"]
    if parts.scheme == "rediss":
        allowed += _TLS_PARAMETERS
    if parts.scheme == "unix":
        allowed += ["password"]
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            raise wrong(f"there is no parameter {name!r}; {did_you_mean(name, allowed)}")
        if name in query or not value:
            raise wrong(f"parameter {name!r} is empty or given twice")
        query[name] = value
    return query


def _database(query: Mapping[str, str], path: str, wrong: Any) -> int:
    if "db" in query and path:
        raise wrong("the database is given twice")
    number = query.get("db") or path or "0"
    if not (number.isascii() and number.isdigit()) or int(number) > 2**31 - 1:
        raise wrong(f"database {number!r} is not a whole number")
    return int(number)


def _tls(query: Mapping[str, str], wrong: Any) -> TLS:
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in query and not Path(query[name]).is_file():
            raise wrong(f"{name}: there is no file {query[name]!r}")
    if ("ssl_certfile" in query) != ("ssl_keyfile" in query):
        raise wrong("ssl_certfile and ssl_keyfile go together")
    cert_reqs = query.get("ssl_cert_reqs", "required")
    if cert_reqs not in ("required", "none"):
        raise wrong(f"ssl_cert_reqs: {cert_reqs!r} is not 'required' or 'none'")
    check = query.get("ssl_check_hostname", "true").lower()
    if check not in ("true", "false"):
        raise wrong(f"ssl_check_hostname: {check!r} is not 'true' or 'false'")
    return TLS(
        ca_certs=query.get("ssl_ca_certs"),
        certfile=query.get("ssl_certfile"),
        keyfile=query.get("ssl_keyfile"),
        cert_reqs=cert_reqs,
        check_hostname=check == "true" and cert_reqs == "required",
    )
