"""Where Redis is, and as whom to go there: the `url` option, taken apart.

Nothing is opened here, and no secret ever shows in a repr or an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from model_cache.errors import ConfigurationError, did_you_mean


class DefaultText(str):
    """A default that is told apart from the same text, given."""

    __slots__ = ()


class DefaultNumber(int):
    """A default that is told apart from the same number, given."""


DEFAULT = (DefaultText, DefaultNumber)

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "embedded",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)
SENTINEL_PORT = 26379

# The query parameters of rediss://, named as in redis-py's urls.
_TLS_PARAMETERS = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "standalone": ("db",),
    "unix": ("db", "password"),
    "cluster": ("replicas",),
    "sentinel": ("db", "sentinel_username", "sentinel_password"),
}
_NODE = re.compile(r"(\[[^\]]+\]|[^:\[\]@/]*)(?::([0-9]*))?")


class Address(NamedTuple):
    """A host and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


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
    """Where Redis is, and the login there.

    Attributes:
        host: a name or an address, of a server on its own.
        port: its TCP port.
        database: the number to SELECT.
        path: of a unix socket, instead of host and port.
        username: of the ACL user.
        password: its password.
        tls: how to encrypt; None for not at all.
        embedded: a server of this process's own, to be started; nothing else counts then.
        cluster: nodes of a Redis Cluster, any of which knows the others.
        replicas: whether to read from a cluster's replicas, too.
        sentinels: Sentinels, any of which knows where the primary is.
        service: the primary's name there.
        sentinel_username: the login at the Sentinels, which is one of their own.
        sentinel_password: its password.
        proxied: whether there is a proxy in between, such as Twemproxy.
    """

    host: str = "localhost"
    port: int = 6379
    database: int = 0
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TLS | None = None
    embedded: bool = False
    cluster: tuple[Address, ...] = ()
    replicas: bool = False
    sentinels: tuple[Address, ...] = ()
    service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    proxied: bool = False

    def __str__(self) -> str:
        nodes = self.cluster or self.sentinels or (Address(self.host, self.port),)
        return self.path or ",".join(map(str, nodes))

    def masked(self, text: str) -> str:
        """Return a text without the secrets of this endpoint."""
        for secret in filter(None, (self.password, self.sentinel_password)):
            text = text.replace(secret, "***")
        return text

    def with_login(self, username: str | None, password: str | None) -> Endpoint:
        """Return the same endpoint with a login from elsewhere, say, from a secret."""
        if password is None:
            return self
        if self.embedded:
            raise ConfigurationError("password", "the embedded server has none")
        if self.password is not None:
            raise ConfigurationError("password", "is given twice: here and in the url")
        return replace(self, username=username or self.username, password=password)

    def behind_proxy(self) -> Endpoint:
        """Return the same endpoint, with a proxy in between that speaks a part of RESP2 only."""
        if self.cluster or self.sentinels or self.embedded:
            raise ConfigurationError("proxied", "excludes cluster, sentinel and embedded urls")
        if self.database:
            raise ConfigurationError(
                "proxied", f"a proxy knows no SELECT: database {self.database} can't be had, only 0"
            )
        return replace(self, proxied=True)


def masked_url(url: str) -> str:
    """Return what of a url, well-formed or not, can be shown: a password may be anywhere in it."""
    scheme, _, rest = url.partition("://")
    hosts = re.fullmatch(r"(?:.*@)?([\w.,:\[\]-]*)(/\d*)?", rest, re.S) if "@" in rest else None
    shown = f"***@{hosts[1]}{hosts[2] or ''}" if hosts else "***"
    return f"{scheme}://{shown}" if re.fullmatch(r"[\w+.-]+", scheme) and rest else "***"


def parse_url(option: str, url: object) -> Endpoint:
    """Take a url apart.

    Raises:
        ConfigurationError: it is malformed; the message shows it without its passwords.
    """
    if not isinstance(url, str) or "://" not in url:
        # The value is not shown: a password may be anywhere in it.
        raise ConfigurationError(
            option, f"a {type(url).__name__} that is no url such as redis://localhost:6379/0"
        )

    def wrong(problem: str) -> ConfigurationError:
        return ConfigurationError(option, f"{masked_url(url)!r}: {problem}")

    try:
        parts = urlsplit(url)
    except ValueError:
        raise wrong("its host is malformed") from None
    if parts.scheme not in SCHEMES:
        raise wrong(f"scheme {parts.scheme!r} is not known; {did_you_mean(parts.scheme, SCHEMES)}")
    if parts.fragment or "#" in url:
        raise wrong("a '#' in a password is written %23")
    scheme, _, topology = parts.scheme.partition("+")
    if scheme == "embedded":
        if url.partition("://")[2].strip("/"):
            raise wrong("embedded:// stands alone")
        return Endpoint(embedded=True)
    topology = topology or ("unix" if scheme == "unix" else "standalone")
    if topology != "unix" and "@" in parts.path + parts.query:
        raise wrong("a '/' or '?' in a password is written %2F or %3F")
    query = _query(parts, topology, wrong)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, secret = login.partition(":")
    username, password = unquote(name) or None, unquote(secret) or query.get("password")
    place = _PLACES[topology](hosts, unquote(parts.path), query, wrong)
    tls = _tls(query, wrong) if scheme == "rediss" else None
    return replace(place, username=username, password=password, tls=tls)


def _unix(hosts: str, path: str, query: Mapping[str, str], wrong: Any) -> Endpoint:
    if not path.strip("/") or hosts:
        raise wrong("a socket's path is absolute: unix:///run/redis.sock")
    return Endpoint(path=path, database=_database(query, "", wrong))


def _standalone(hosts: str, path: str, query: Mapping[str, str], wrong: Any) -> Endpoint:
    node, *others = _nodes(hosts, 6379, wrong)
    if others:
        raise wrong("several hosts are for redis+cluster:// and redis+sentinel://")
    database = _database(query, path.strip("/"), wrong)
    return Endpoint(host=node.host, port=node.port, database=database)


def _cluster(hosts: str, path: str, query: Mapping[str, str], wrong: Any) -> Endpoint:
    if path.strip("/") not in ("", "0"):
        raise wrong("a cluster has database 0 only")
    replicas = _flag(query, "replicas", "false", wrong)
    return Endpoint(cluster=_nodes(hosts, 6379, wrong), replicas=replicas)


def _sentinel(hosts: str, path: str, query: Mapping[str, str], wrong: Any) -> Endpoint:
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise wrong("name the service: redis+sentinel://host:26379/service/0")
    return Endpoint(
        sentinels=_nodes(hosts, SENTINEL_PORT, wrong),
        service=service,
        database=_database(query, database, wrong),
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
    )


_PLACES: Mapping[str, Callable[[str, str, Mapping[str, str], Any], Endpoint]] = {
    "unix": _unix,
    "standalone": _standalone,
    "cluster": _cluster,
    "sentinel": _sentinel,
}


def _nodes(hosts: str, port: int, wrong: Any) -> tuple[Address, ...]:
    nodes = []
    for node in hosts.split(","):
        match = _NODE.fullmatch(node)
        number = int((match[2] or str(port))[:6]) if match else 0
        if match is None or not 1 <= number <= 65_535:
            raise wrong("it has not a host and a port; ports are from 1 to 65535")
        nodes.append(Address(unquote(match[1]).strip("[]") or "localhost", number))
    return tuple(nodes)


def _query(parts: SplitResult, topology: str, wrong: Any) -> dict[str, str]:
    allowed = _PARAMETERS[topology]
    if parts.scheme.startswith("rediss"):
        allowed += _TLS_PARAMETERS
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            raise wrong(f"there is no such parameter; {did_you_mean(name, allowed)}")
        if name in query or not value:
            raise wrong(f"parameter {name!r} is empty or given twice")
        query[name] = value
    return query


def _flag(query: Mapping[str, str], name: str, default: str, wrong: Any) -> bool:
    value = query.get(name, default).lower()
    if value not in ("true", "false"):
        raise wrong(f"{name}: {value!r} is not 'true' or 'false'")
    return value == "true"


def _database(query: Mapping[str, str], path: str, wrong: Any) -> int:
    if "db" in query and path:
        raise wrong("the database is given twice")
    number = query.get("db") or path or "0"
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise wrong("its database is not a whole number")
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
    check = _flag(query, "ssl_check_hostname", "true", wrong)
    return TLS(
        ca_certs=query.get("ssl_ca_certs"),
        certfile=query.get("ssl_certfile"),
        keyfile=query.get("ssl_keyfile"),
        cert_reqs=cert_reqs,
        check_hostname=check and cert_reqs == "required",
    )
