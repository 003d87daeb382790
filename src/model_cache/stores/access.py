"""Options for a login that changes (IAM, Entra ID), and for addresses that have to be translated.

The nodes of a cluster behind NAT announce addresses that can't be reached from here.
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
    """Returns the login of the moment; redis-py's protocol, so its providers fit."""

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return `(password,)` or `(username, password)`."""
        ...


AddressMap: TypeAlias = Callable[[Address], tuple[str, int]]
"""Returns where to connect to reach an address that a server announces."""


def credential_provider(value: object) -> CredentialProvider | None:
    """Check the option `credential_provider`.

    Args:
        value: an object with the method `get_credentials`, or an import path
            `package.module:name` to one, or to a class of such objects.

    Raises:
        ConfigurationError: it is something else.
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
        # The value itself is not shown: its repr may hold a secret.
        raise ConfigurationError(
            option,
            "expected an object with a method get_credentials(), not async, or an import path "
            f"package.module:name to one, got {_name(value)}",
        )
    return found


def address_map(value: object) -> AddressMap | None:
    """Check the option `address_map`.

    Args:
        value: a mapping from announced addresses to those to connect to, each `host:port`; or a
            function from one `(host, port)` to another, or an import path to either.

    Raises:
        ConfigurationError: it is something else.
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
            f"of one (host, port), not async, or an import path to either, got {value!r}",
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
