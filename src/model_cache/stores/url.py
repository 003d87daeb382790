"""Where Redis is, and as whom to log in there: the `url` option, taken apart.

Nothing is opened here. Passwords are wrapped, and no error shows one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from model_cache.errors import ConfigurationError, did_you_mean
from model_cache.redaction import masked_url, revealed, sealed
from model_cache.stores import tls as tls_options
from model_cache.stores.tls import TLS, tls_from
from model_cache.stores.url_parameters import MalformedUrlError, flag_in, parameters_of, plain_flag


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
# What valkey-py and Celery write for them.
_SYNONYMS = {"valkey": "redis", "valkeys": "rediss", "redis+socket": "unix"}
SENTINEL_PORT = 26379

_NODE = re.compile(r"(\[[^\]]+\]|[^:\[\]@/]*)(?::([0-9]*))?")


class Address(NamedTuple):
    """A host and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


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
    password: SecretStr | None = None
    tls: TLS | None = None
    embedded: bool = False
    cluster: tuple[Address, ...] = ()
    replicas: bool = False
    sentinels: tuple[Address, ...] = ()
    service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: SecretStr | None = None
    proxied: bool = False

    def __str__(self) -> str:
        nodes = self.cluster or self.sentinels or (Address(self.host, self.port),)
        return self.path or ",".join(map(str, nodes))

    def masked(self, text: str) -> str:
        """Return a text without the secrets of this endpoint."""
        for secret in filter(None, (self.password, self.sentinel_password)):
            text = text.replace(secret.get_secret_value(), "***")
        return text

    def with_login(self, username: str | None, password: SecretStr | None) -> Endpoint:
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


def parse_url(
    option: str,
    url: object,
    tls: Mapping[str, object] | None = None,
    *,
    shared: bool = False,
) -> Endpoint:
    """Take a url apart.

    Args:
        option: the name of the option, or of the environment's variable, that the url is from.
        url: the url, wrapped or not.
        tls: TLS options that are given next to the url.
        shared: whether other libraries read the url, too: their parameters are ignored then.

    Raises:
        ConfigurationError: it is malformed; the message shows it without its passwords.
    """
    url = sealed(url)
    try:
        return _parsed(url, tls or {}, shared=shared)
    except MalformedUrlError as error:
        text = revealed(url)
        place = f"{masked_url(text)!r}: " if isinstance(text, str) and "://" in text else ""
        failure = ConfigurationError(option, f"{place}{error}")
        del text
    except ConfigurationError as error:  # of an option next to the url
        failure = ConfigurationError(error.option, error.problem)
    # Raised here, without the frames above, whose locals hold the url in clear.
    raise failure


def _parsed(url: Any, tls: Mapping[str, object], *, shared: bool) -> Endpoint:
    text = _plain(revealed(url))
    try:
        parts = urlsplit(text)
    except ValueError:
        raise MalformedUrlError("its host is malformed") from None
    full_scheme = _SYNONYMS.get(parts.scheme, parts.scheme)
    _check_scheme(full_scheme)
    if parts.fragment or "#" in text:
        raise MalformedUrlError("a '#' in a password is written %23")
    scheme, _, topology = full_scheme.partition("+")
    if tls and scheme != "rediss":
        raise ConfigurationError(
            next(iter(tls)), f"needs a url that begins with rediss, not {scheme}: it has no TLS"
        )
    if scheme == "embedded":
        if text.partition("://")[2].strip("/"):
            raise MalformedUrlError("embedded:// stands alone")
        return Endpoint(embedded=True)
    topology = topology or ("unix" if scheme == "unix" else "standalone")
    if topology != "unix" and "@" in parts.path:
        raise MalformedUrlError("a '/' in a password is written %2F")
    encrypted = scheme == "rediss"
    query = parameters_of(parts.query, topology, encrypted=encrypted, shared=shared)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, secret = login.partition(":")
    path = unquote(parts.path)
    if shared and topology == "standalone" and "db" in query:
        path = ""  # as redis-py and Celery do
    place = _PLACES[topology](hosts, path, query)
    return replace(
        place,
        username=unquote(name) or query.get("username"),
        password=sealed(unquote(secret) or query.get("password")),
        tls=_tls(query, tls) if encrypted else None,
    )


def _plain(url: object) -> str:
    """Return a url without the white space around it; refuse what can't be one."""
    if not isinstance(url, str):
        raise MalformedUrlError(
            f"expected a url such as redis://localhost:6379/0, got a {type(url).__name__}"
        )
    text = url.strip()
    if text[:1] in ("'", '"', "`"):
        raise MalformedUrlError(
            "the url is in quotes that are part of it; remove them "
            "(docker's --env-file keeps quotes)"
        )
    if "://" not in text:
        # The value is not shown: a password may be anywhere in it.
        raise MalformedUrlError(
            "expected a url such as redis://localhost:6379/0, got a text without '://'"
        )
    if re.search(r"\s", text):
        raise MalformedUrlError("a url has no white space; in a password it is percent-encoded")
    return text


def _check_scheme(scheme: str) -> None:
    if scheme in SCHEMES:
        return
    hint = did_you_mean(scheme, SCHEMES)
    if scheme == "tcp":
        hint = "docker writes the port of a linked container so; write redis:// instead"
    elif "sentinel" in scheme:
        hint = "write redis+sentinel://host:26379/service"
    raise MalformedUrlError(f"scheme {scheme!r} is not known; {hint}")


def _tls(query: Mapping[str, str], given: Mapping[str, object]) -> TLS:
    in_url = {name: query[name] for name in tls_options.NAMES if name in query}
    if "ssl_check_hostname" in in_url:
        in_url["ssl_check_hostname"] = plain_flag(in_url["ssl_check_hostname"])
    for name in in_url.keys() & given.keys():
        raise ConfigurationError(name, "is given twice: here and in the url")
    try:
        return tls_from({**in_url, **given})
    except ConfigurationError as error:
        if error.option in in_url:
            raise MalformedUrlError(str(error)) from None
        raise


def _unix(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    if not path.strip("/") or hosts:
        raise MalformedUrlError("a socket's path is absolute: unix:///run/redis.sock")
    return Endpoint(path=path, database=_database(query, ""))


def _standalone(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    node, *others = _nodes(hosts, 6379)
    if others:
        raise MalformedUrlError("several hosts are for redis+cluster:// and redis+sentinel://")
    database = _database(query, path.strip("/"))
    return Endpoint(host=node.host, port=node.port, database=database)


def _cluster(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    if path.strip("/") not in ("", "0"):
        raise MalformedUrlError("a cluster has database 0 only")
    replicas = flag_in(query, "replicas", default=False)
    return Endpoint(cluster=_nodes(hosts, 6379), replicas=replicas)


def _sentinel(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise MalformedUrlError("name the service: redis+sentinel://host:26379/service/0")
    return Endpoint(
        sentinels=_nodes(hosts, SENTINEL_PORT),
        service=service,
        database=_database(query, database),
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=sealed(query.get("sentinel_password")),
    )


_PLACES: Mapping[str, Callable[[str, str, Mapping[str, str]], Endpoint]] = {
    "unix": _unix,
    "standalone": _standalone,
    "cluster": _cluster,
    "sentinel": _sentinel,
}


def _nodes(hosts: str, port: int) -> tuple[Address, ...]:
    nodes = []
    for node in hosts.split(","):
        match = _NODE.fullmatch(node)
        number = int((match[2] or str(port))[:6]) if match else 0
        if match is None or not 1 <= number <= 65_535:
            raise MalformedUrlError("expected host:port; ports are from 1 to 65535")
        nodes.append(Address(unquote(match[1]).strip("[]") or "localhost", number))
    return tuple(nodes)


def _database(query: Mapping[str, str], path: str) -> int:
    if "db" in query and path:
        raise MalformedUrlError("the database is given twice")
    number = query.get("db") or path or "0"
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise MalformedUrlError("its database is not a whole number")
    return int(number)
