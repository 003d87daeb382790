"""Where Redis is, for a command: the decorator's own options, its secrets from the environment."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from model_cache.composition import administered, compose
from model_cache.config import Config
from model_cache.decorator import RedisCachingDecorator
from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.protocols import Store
from model_cache.stores.connections import ErrorReply
from model_cache.stores.redis import RedisStore

LOCAL = "redis://localhost:6379/0"
_VARIABLES = {"username": "MODEL_CACHE_USERNAME", "password": "MODEL_CACHE_PASSWORD"}
# Replies of a server to which we are logged in, and which has its data.
_TALKING = ("NOPERM", "WRONGTYPE")
SECRET_VARIABLE = "MODEL_CACHE_KEY_SECRET"


@dataclass(frozen=True)
class Connection:
    """What a command was told about Redis.

    Attributes:
        url: where it is; None if nobody said so: then it is looked for on this machine.
        proxied: whether a proxy is in between.
        timeout: seconds that each round trip may take.
    """

    url: str | None = field(repr=False)
    proxied: bool
    timeout: float

    def config(self) -> Config:
        """Return this as options of the decorator, checked, with the login from the environment.

        Raises:
            ConfigurationError: one that can't be honoured.
        """
        given = {"url": self.url or LOCAL, "proxied": self.proxied, "timeout": self.timeout}
        config = Config.parse({**_defaults(), **given, **login()})
        refuse_embedded(config)
        return config

    @contextmanager
    def servers(self) -> Iterator[Mapping[str, RedisStore]]:
        """Open the servers, each by its place: one, or a cluster's primaries."""
        with ExitStack() as stack:
            try:
                servers = administered(self.config().endpoint, self.timeout)
                for place, server in servers.items():
                    stack.callback(server.close)
                    _check_that_it_talks(place, server, self.timeout)
            except StoreUnavailableError as error:
                if self.url or error.kind not in ("connection", "timeout"):
                    raise
                message = f"{error}; set REDIS_URL or give --url"
                raise StoreUnavailableError(message, error.kind) from error
            yield servers

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open them as one store."""
        with self.servers():  # says what is wrong, where a cluster's store would only wait
            pass
        store = compose(self.config().endpoint, lambda _: None, timeout=self.timeout)
        try:
            yield store
        finally:
            store.close()


def _check_that_it_talks(place: str, server: RedisStore, timeout: float) -> None:
    question = (b"GET", b"model-cache") if server.proxied else (b"PING",)
    reply = server.execute(timeout, *question)
    if isinstance(reply, ErrorReply) and reply.code not in _TALKING:
        raise StoreUnavailableError(f"{place}: {reply}", reply.code)


def refuse_embedded(config: Config) -> None:
    """Raise `ConfigurationError` for a server that nobody else would see."""
    if config.endpoint.embedded:
        raise ConfigurationError(
            "url", "embedded:// is a server of one process's own; give one that others use, too"
        )


def login() -> dict[str, str | None]:
    """Return the decorator's `username` and `password` from the environment."""
    return {name: os.environ.get(variable) or None for name, variable in _VARIABLES.items()}


def key_secret() -> str | None:
    """Return the decorator's `key_secret` from the environment."""
    return os.environ.get(SECRET_VARIABLE) or None


def _defaults() -> dict[str, Any]:
    parameters = inspect.signature(RedisCachingDecorator).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is not each.VAR_KEYWORD}
