"""The Redis that a command works on: the decorator's options, secrets from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_cache.decorator import option_defaults
from model_cache.errors import ConfigurationError, StoreUnavailableError, said_by
from model_cache.options.config import Config
from model_cache.protocols import Store
from model_cache.stores.connection import ErrorReply
from model_cache.stores.opening import administered, compose
from model_cache.stores.server import RedisStore

LOCAL = "redis://localhost:6379/0"
_VARIABLES = {"username": "MODEL_CACHE_USERNAME", "password": "MODEL_CACHE_PASSWORD"}
_PASSWORD_FILE = "MODEL_CACHE_PASSWORD_FILE"
SECRET_VARIABLE = "MODEL_CACHE_KEY_SECRET"
ENCRYPTION_VARIABLE = "MODEL_CACHE_ENCRYPTION_KEY"
# Error replies of a server that is up and accepts the login.
_READY = ("NOPERM", "WRONGTYPE")


@dataclass(frozen=True)
class Target:
    """A Redis server or cluster.

    Attributes:
        url: its address; None for the one on this machine.
        proxied: whether it is behind a proxy.
        timeout: seconds that each round trip may take.
    """

    url: str | None = field(repr=False)
    proxied: bool
    timeout: float

    def config(self) -> Config:
        """Return the target as options of the decorator, with the login from the environment.

        Raises:
            ConfigurationError: an option is invalid.
        """
        given = {"url": self.url or LOCAL, "proxied": self.proxied, "timeout": self.timeout}
        config = Config.parse({**option_defaults(), **given, **login(), **secrets()})
        if config.endpoint.embedded:
            raise embedded_error()
        return config

    @contextmanager
    def servers(self) -> Iterator[Mapping[str, RedisStore]]:
        """Open the servers by address: one server, or the primaries of a cluster."""
        with ExitStack() as stack:
            try:
                servers = administered(self.config().endpoint, self.timeout)
                for address, server in servers.items():
                    stack.callback(server.close)
                    _check_ready(address, server, self.timeout)
            except StoreUnavailableError as error:
                if self.url or error.kind not in ("connection", "timeout"):
                    raise
                message = f"{error}; set REDIS_URL or give --url"
                raise StoreUnavailableError(message, error.kind) from error
            yield servers

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the servers as one store."""
        with self.servers():  # fails at once with a reason; a cluster's store retries
            pass
        store = compose(self.config().endpoint, lambda _: None, timeout=self.timeout)
        try:
            yield store
        finally:
            store.close()


def _check_ready(address: str, server: RedisStore, timeout: float) -> None:
    command = (b"GET", b"model-cache") if server.proxied else (b"PING",)
    reply = server.execute(timeout, *command)
    if isinstance(reply, ErrorReply) and reply.code not in _READY:
        raise StoreUnavailableError(f"{address}: {reply}", reply.code)


def embedded_error() -> ConfigurationError:
    """Return the error for a server that only one process can see."""
    return ConfigurationError(
        "url",
        "expected a Redis that other processes can reach, got 'embedded://'; "
        "`model-cache serve` starts one",
    )


def login() -> dict[str, str | None]:
    """Return the decorator's `username` and `password` from the environment.

    The password may be in a file, as Docker and Kubernetes mount secrets.

    Raises:
        ConfigurationError: the file can't be read.
    """
    found = {name: os.environ.get(variable) or None for name, variable in _VARIABLES.items()}
    if file := os.environ.get(_PASSWORD_FILE):
        try:
            found["password"] = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            problem = f"can't read {file!r}: {said_by(error)}"
            raise ConfigurationError(_PASSWORD_FILE, problem) from error
        except UnicodeDecodeError:  # whose message has a part of the password
            raise ConfigurationError(_PASSWORD_FILE, f"{file!r} is not in UTF-8") from None
    return found


def secrets() -> dict[str, Any]:
    """Return the decorator's `key_secret` and `encryption_key`, if they are in the environment.

    Several encryption keys are a JSON list.

    Raises:
        ConfigurationError: a list that is not JSON.
    """
    found: dict[str, Any] = {
        "key_secret": os.environ.get(SECRET_VARIABLE),
        "encryption_key": os.environ.get(ENCRYPTION_VARIABLE),
    }
    if (found["encryption_key"] or "").startswith("["):
        try:
            found["encryption_key"] = json.loads(found["encryption_key"])
        except ValueError:
            problem = 'expected a secret, or a JSON list of secrets: ["new", "old"]'
            raise ConfigurationError(ENCRYPTION_VARIABLE, problem) from None
    return {name: value for name, value in found.items() if value}
