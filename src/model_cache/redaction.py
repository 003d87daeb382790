"""Keep secrets out of reprs, error messages, log lines and the variables that tracebacks show.

Secrets are wrapped in pydantic's `SecretStr` and `SecretBytes` at the edge, and unwrapped only
where Redis or a hash needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, overload

from pydantic import Secret, SecretBytes, SecretStr

KeySecret: TypeAlias = SecretStr | SecretBytes

# `host` is not a secret, but users sometimes pass a url that contains a password.
_SEALED = ("url", "password", "key_secret", "encryption_key", "host")
SECRETS = (SecretStr, SecretBytes, Secret)


@overload
def sealed(value: str | SecretStr) -> SecretStr: ...
@overload
def sealed(value: bytes | SecretBytes) -> SecretBytes: ...
@overload
def sealed(value: None) -> None: ...
@overload
def sealed(value: object) -> Any: ...
def sealed(value: Any) -> Any:
    """Wrap a secret, or a value given in its place, so that its repr hides it."""
    if value is None or isinstance(value, SECRETS):
        return value
    if isinstance(value, str):
        return SecretStr(value)
    return SecretBytes(value) if isinstance(value, bytes) else Secret(value)


def revealed(value: Any) -> Any:
    """Unwrap a value that `sealed` has wrapped; return any other value unchanged."""
    return value.get_secret_value() if isinstance(value, SECRETS) else value


def sealed_options(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the options with these names, in this order, with secrets wrapped."""
    found = {name: options[name] for name in names}
    for name in _SEALED:
        if name != "host" or (isinstance(found[name], str) and "://" in found[name]):
            value = found[name]
            several = name == "encryption_key" and isinstance(value, (list, tuple))
            found[name] = list(map(sealed, value)) if several else sealed(value)
    return found


def shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a form that is safe to show: secrets removed, urls masked."""
    safe = {
        name: _shown(name, value) if _is_secret(value) else value for name, value in options.items()
    }
    if not isinstance(safe["credential_provider"], (str, type(None))):
        safe["credential_provider"] = type(safe["credential_provider"]).__qualname__
    return safe


def _is_secret(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_secret, value))
    return isinstance(value, SECRETS)


def _shown(name: str, value: Any) -> str:
    secret = revealed(value)
    return masked_url(secret) if name == "url" and isinstance(secret, str) else "***"


def masked_url(url: str) -> str:
    """Return the part of a url that is safe to show, even if the url is malformed.

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
    """Remove the tracebacks of an error and of the errors that caused it; return the error.

    For errors raised during a login: its frames contain the password in clear text.
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
