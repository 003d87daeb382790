"""Keep secrets out of reprs, error messages, log lines and the locals that tracebacks print.

Secrets are wrapped in pydantic's `SecretStr` and `SecretBytes` as soon as they arrive, and
unwrapped only where Redis or a hash needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, overload

from pydantic import Secret, SecretBytes, SecretStr

KeySecret: TypeAlias = SecretStr | SecretBytes

# `host` is no secret, but a url with a password in it is sometimes given there.
_SEALED = ("url", "password", "key_secret", "host")
_WRAPPERS = (SecretStr, SecretBytes, Secret)


@overload
def sealed(value: str | SecretStr) -> SecretStr: ...
@overload
def sealed(value: bytes | SecretBytes) -> SecretBytes: ...
@overload
def sealed(value: None) -> None: ...
@overload
def sealed(value: object) -> Any: ...
def sealed(value: Any) -> Any:
    """Return a secret, or what was given in place of one, in a wrapper whose repr hides it."""
    if value is None or isinstance(value, _WRAPPERS):
        return value
    if isinstance(value, str):
        return SecretStr(value)
    return SecretBytes(value) if isinstance(value, bytes) else Secret(value)


def revealed(value: Any) -> Any:
    """Return what `sealed` has wrapped; any other value as it is."""
    return value.get_secret_value() if isinstance(value, _WRAPPERS) else value


def sealed_options(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the options of these names, in this order, with the secrets wrapped."""
    found = {name: options[name] for name in names}
    for name in _SEALED:
        if name != "host" or (isinstance(found[name], str) and "://" in found[name]):
            found[name] = sealed(found[name])
    return found


def shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as they may be shown: a url without its secrets, and no other secret."""
    safe = {
        name: _shown(name, value) if isinstance(value, _WRAPPERS) else value
        for name, value in options.items()
    }
    if not isinstance(safe["credential_provider"], (str, type(None))):
        safe["credential_provider"] = type(safe["credential_provider"]).__qualname__
    return safe


def _shown(name: str, value: Any) -> str:
    secret = revealed(value)
    return masked_url(secret) if name == "url" and isinstance(secret, str) else "***"


def masked_url(url: str) -> str:
    """Return the part of a url that can be shown, whether or not the url is well-formed.

    An unescaped password may contain any character, so only what follows the last `@` is safe to
    show, and only if no `@` comes after a `?`: the query may hold another password.
    """
    scheme, _, rest = url.strip().partition("://")
    place, _, query = rest.partition("?")
    hosts = None
    if "@" in place and "@" not in query:
        hosts = re.fullmatch(r"(?:.*@)?([\w.,:\[\]-]*)(/\d*)?", place, re.S)
    shown = f"***@{hosts[1]}{hosts[2] or ''}" if hosts else "***"
    return f"{scheme}://{shown}" if re.fullmatch(r"[\w+.-]+", scheme) and rest else "***"


def without_traceback(error: BaseException) -> BaseException:
    """Return an error whose traceback is removed, and those of the errors that led to it.

    For errors raised by redis-py while it logs in: its frames hold the password in clear.
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            waiting += [each.__cause__, each.__context__]
    return error
