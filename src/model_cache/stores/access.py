"""Options for logins that change (IAM, Entra ID) and for addresses that need translation.

The nodes of a cluster behind NAT announce addresses that clients outside can't reach.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from model_cache.errors import ConfigurationError
from model_cache.import_paths import imported
from model_cache.stores.url import Address


@runtime_checkable
class CredentialProvider(Protocol):
    """Returns the current login. Same protocol as in redis-py, so its providers work."""

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return `(password,)` or `(username, password)`."""
        ...


AddressMap: TypeAlias = Callable[[Address], tuple[str, int]]
"""Translates an address that a server announces to the one to connect to."""


def credential_provider(value: object) -> CredentialProvider | None:
    """Check the option `credential_provider`.

    Args:
        value: an object with the method `get_credentials`, or an import path
            `package.module:name` to one, or to a class of such objects.

    Raises:
        ConfigurationError: the value is anything else.
    """
    if value is None:
        return None
    option = "credential_provider"
    found = imported(option, value) if isinstance(value, str) else value
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise ConfigurationError(
                option,
                f"{found.__qualname__}() raised {type(error).__name__}; "
                "name an instance, or a class whose instances take no arguments",
            ) from error
    is_async = inspect.iscoroutinefunction(getattr(found, "get_credentials", None))
    if not isinstance(found, CredentialProvider) or is_async:
        # Don't show the value: its repr may contain a secret.
        raise ConfigurationError(
            option,
            "expected an object with a get_credentials() method that is not async, or an import "
            f"path package.module:name to one, got {_name(value)}",
        )
    return found


def address_map(value: object) -> AddressMap | None:
    """Check the option `address_map`.

    Args:
        value: a mapping from announced addresses to the ones to connect to, each `host:port`; a
            function from one `(host, port)` to another; or an import path to either.

    Raises:
        ConfigurationError: the value is anything else.
    """
    if value is None:
        return None
    option = "address_map"
    found = imported(option, value) if isinstance(value, str) else value
    if isinstance(found, Mapping):
        addresses = {_address(option, one): _address(option, two) for one, two in found.items()}
        return lambda address: addresses.get(address, address)
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise ConfigurationError(
            option,
            "expected a mapping such as {'10.0.0.1:6379': 'redis.example.com:7000'}, a function "
            f"of (host, port) that is not async, or an import path to either, got {value!r}",
        )
    return found  # type: ignore[no-any-return]


def _address(option: str, value: object) -> Address:
    try:
        parts = urlsplit(f"//{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != value or parts.username is not None:
        raise ConfigurationError(option, f"expected host:port, got {value!r}")
    return Address(host, port)


def _name(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"a {type(value).__qualname__}"
