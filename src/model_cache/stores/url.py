"""Parse the option `url` into an `Endpoint`: the address of Redis and the login.

Passwords are wrapped, and no error message contains one.
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
    """A default, distinguishable from the same string given explicitly."""

    __slots__ = ()


class DefaultNumber(int):
    """A default, distinguishable from the same number given explicitly."""


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
# Aliases from valkey-py and Celery.
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
    """The address of Redis and the login.

    Attributes:
        host: the name or address of a single server.
        port: its TCP port.
        database: the database number.
        path: the path of a unix socket, instead of host and port.
        username: the ACL user.
        password: its password.
        tls: the TLS options; None for no TLS.
        embedded: whether to start an embedded server; all other attributes are ignored then.
        cluster: nodes of a Redis Cluster; any of them knows the others.
        replicas: whether to also read from a cluster's replicas.
        sentinels: the Sentinels; any of them knows the primary.
        service: the Sentinels' name for the primary.
        sentinel_username: the user for the Sentinels, which have their own logins.
        sentinel_password: the password for the Sentinels.
        proxied: whether Redis is behind a proxy such as Twemproxy.
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
        """Return a string with the secrets of this endpoint masked."""
        for secret in filter(None, (self.password, self.sentinel_password)):
            text = text.replace(secret.get_secret_value(), "***")
        return text

    def with_login(self, username: str | None, password: SecretStr | None) -> Endpoint:
        """Return the same endpoint with a login that is not part of the url."""
        if password is None:
            return self
        if self.embedded:
            raise ConfigurationError(
                "password", "can't be used with the embedded server, which has none"
            )
        if self.password is not None:
            raise ConfigurationError("password", "is given twice: as an option and in the url")
        return replace(self, username=username or self.username, password=password)

    def behind_proxy(self) -> Endpoint:
        """Return the same endpoint behind a proxy that supports only part of RESP2."""
        if self.cluster or self.sentinels or self.embedded:
            raise ConfigurationError(
                "proxied", "can't be combined with a cluster, sentinel or embedded url"
            )
        if self.database:
            raise ConfigurationError(
                "proxied", f"the proxy has no SELECT: expected database 0 only, got {self.database}"
            )
        return replace(self, proxied=True)


def parse_url(
    option: str,
    url: object,
    tls: Mapping[str, object] | None = None,
    *,
    shared: bool = False,
) -> Endpoint:
    """Parse a url.

    Args:
        option: the option or environment variable that the url comes from.
        url: the url, wrapped or not.
        tls: TLS options given in addition to the url.
        shared: whether other libraries use the same url; their parameters are ignored then.

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
    except ConfigurationError as error:  # about one of the TLS options
        failure = ConfigurationError(error.option, error.problem)
    # Raised here, without the inner frames, whose local variables hold the url in clear text.
    raise failure


def _parsed(url: Any, tls: Mapping[str, object], *, shared: bool) -> Endpoint:
    text = _plain(revealed(url))
    try:
        parts = urlsplit(text)
    except ValueError:
        raise MalformedUrlError("the host is malformed") from None
    full_scheme = _SYNONYMS.get(parts.scheme, parts.scheme)
    _check_scheme(full_scheme)
    if parts.fragment or "#" in text:
        raise MalformedUrlError("escape '#' in a password as %23")
    scheme, _, topology = full_scheme.partition("+")
    if tls and scheme != "rediss":
        raise ConfigurationError(
            next(iter(tls)), f"needs TLS: use rediss:// instead of {scheme}://"
        )
    if scheme == "embedded":
        if text.partition("://")[2].strip("/"):
            raise MalformedUrlError("embedded:// takes no host, path or parameters")
        return Endpoint(embedded=True)
    topology = topology or ("unix" if scheme == "unix" else "standalone")
    if topology != "unix" and "@" in parts.path:
        raise MalformedUrlError("escape '/' in a password as %2F")
    encrypted = scheme == "rediss"
    query = parameters_of(parts.query, topology, encrypted=encrypted, shared=shared)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, secret = login.partition(":")
    path = unquote(parts.path)
    if shared and topology == "standalone" and "db" in query:
        path = ""  # like redis-py and Celery
    place = _PLACES[topology](hosts, path, query)
    return replace(
        place,
        username=unquote(name) or query.get("username"),
        password=sealed(unquote(secret) or query.get("password")),
        tls=_tls(query, tls) if encrypted else None,
    )


def _plain(url: object) -> str:
    """Return a url stripped of whitespace; raise if the value can't be a url."""
    if not isinstance(url, str):
        raise MalformedUrlError(
            f"expected a url such as redis://localhost:6379/0, got a {type(url).__name__}"
        )
    text = url.strip()
    if text[:1] in ("'", '"', "`"):
        raise MalformedUrlError(
            "the url includes its quotes; remove them (docker's --env-file does not strip quotes)"
        )
    if "://" not in text:
        # Don't show the value: any part of it may be a password.
        raise MalformedUrlError(
            "expected a url such as redis://localhost:6379/0, got a string without '://'"
        )
    if re.search(r"\s", text):
        raise MalformedUrlError("the url contains whitespace; percent-encode it in a password")
    return text


def _check_scheme(scheme: str) -> None:
    if scheme in SCHEMES:
        return
    hint = did_you_mean(scheme, SCHEMES)
    if scheme == "tcp":
        hint = "Docker sets this for linked containers; use redis:// instead"
    elif "sentinel" in scheme:
        hint = "use redis+sentinel://host:26379/service"
    raise MalformedUrlError(f"unknown scheme {scheme!r}; {hint}")


def _tls(query: Mapping[str, str], given: Mapping[str, object]) -> TLS:
    in_url = {name: query[name] for name in tls_options.NAMES if name in query}
    if "ssl_check_hostname" in in_url:
        in_url["ssl_check_hostname"] = plain_flag(in_url["ssl_check_hostname"])
    for name in in_url.keys() & given.keys():
        raise ConfigurationError(name, "is given twice: as an option and in the url")
    try:
        return tls_from({**in_url, **given})
    except ConfigurationError as error:
        if error.option in in_url:
            raise MalformedUrlError(str(error)) from None
        raise


def _unix(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    if not path.strip("/") or hosts:
        raise MalformedUrlError("expected an absolute path to a socket: unix:///run/redis.sock")
    return Endpoint(path=path, database=_database(query, ""))


def _standalone(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    node, *others = _nodes(hosts, 6379)
    if others:
        raise MalformedUrlError("only redis+cluster:// and redis+sentinel:// take several hosts")
    database = _database(query, path.strip("/"))
    return Endpoint(host=node.host, port=node.port, database=database)


def _cluster(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    if path.strip("/") not in ("", "0"):
        raise MalformedUrlError("a cluster has only database 0")
    replicas = flag_in(query, "replicas", default=False)
    return Endpoint(cluster=_nodes(hosts, 6379), replicas=replicas)


def _sentinel(hosts: str, path: str, query: Mapping[str, str]) -> Endpoint:
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise MalformedUrlError("expected the service's name: redis+sentinel://host:26379/service")
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
            raise MalformedUrlError("expected host:port, with a port from 1 to 65535")
        nodes.append(Address(unquote(match[1]).strip("[]") or "localhost", number))
    return tuple(nodes)


def _database(query: Mapping[str, str], path: str) -> int:
    if "db" in query and path:
        raise MalformedUrlError("the database is given twice")
    number = query.get("db") or path or "0"
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise MalformedUrlError("the database is not a whole number")
    return int(number)
