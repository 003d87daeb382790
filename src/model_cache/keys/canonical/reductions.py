"""Types whose instances reduce to a class, a simpler value and possibly attributes.

The value is read with the base class's own methods, even if a subclass overrides them: a URL that
masks its password in `str()` still differs from one with another password.
"""

from __future__ import annotations

import functools
import ipaddress
import pathlib
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pydantic_core
from pydantic import AnyUrl, NameEmail, PostgresDsn, Secret, SecretBytes, SecretStr

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.attributes import state_reader
from model_cache.keys.canonical.identities import class_identity


def _defaultdict_part(value: defaultdict[Any, Any]) -> tuple[bytes | None, dict[Any, Any]]:
    factory = value.default_factory
    if factory is not None and not isinstance(factory, type):
        # Two lambdas have the same name, and partials have none.
        raise NotCacheableError("a defaultdict whose factory is not a class has no canonical form")
    return None if factory is None else class_identity(factory), dict(value)


# Matched exactly, since a subclass may contain more; named here, since modules move.
REDUCED: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytearray: ("bytearray", bytes),
    complex: ("complex", lambda value: (value.real, value.imag)),
    Fraction: ("Fraction", lambda value: (value.numerator, value.denominator)),
    range: ("range", lambda value: (value.start, value.stop, value.step)),
    re.Pattern: ("Pattern", lambda value: (value.pattern, value.flags)),
    deque: ("deque", lambda value: (value.maxlen, list(value))),
    OrderedDict: ("OrderedDict", lambda value: list(OrderedDict.items(value))),
    defaultdict: ("defaultdict", _defaultdict_part),
    pathlib.PurePosixPath: ("PurePosixPath", str),
    pathlib.PureWindowsPath: ("PureWindowsPath", str),
    pathlib.PosixPath: ("PosixPath", str),
    pathlib.WindowsPath: ("WindowsPath", str),
    ipaddress.IPv4Address: ("IPv4Address", str),
    ipaddress.IPv6Address: ("IPv6Address", str),
    ipaddress.IPv4Network: ("IPv4Network", lambda value: (str(value), value.netmask)),
    ipaddress.IPv6Network: ("IPv6Network", lambda value: (str(value), value.netmask)),
    ipaddress.IPv4Interface: (
        "IPv4Interface",
        lambda value: (str(value), value.network, value.netmask),
    ),
    ipaddress.IPv6Interface: (
        "IPv6Interface",
        lambda value: (str(value), value.network, value.netmask),
    ),
    NameEmail: ("NameEmail", lambda value: (value.name, value.email)),
    SecretStr: ("SecretStr", SecretStr.get_secret_value),
    SecretBytes: ("SecretBytes", SecretBytes.get_secret_value),
    Secret: ("Secret", Secret.get_secret_value),
    pydantic_core.Url: ("Url", str),
    pydantic_core.MultiHostUrl: ("MultiHostUrl", str),
}

# The base classes of pydantic's URL types, including those that users derive.
URLS = (*AnyUrl.__bases__, *PostgresDsn.__bases__)


def url_part(value: Any) -> Any:
    """Return the `Url` or `MultiHostUrl` inside a URL of any class."""
    base = next(base for base in URLS if issubclass(type(value), base))
    return vars(base)["__dict__"].__get__(value)["_url"]


# How to read the builtin value of a subclass, regardless of what it overrides.
BUILTIN_PART: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    list: list.copy,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    set: lambda value: set.__or__(set(), value),
    frozenset: lambda value: frozenset.__or__(frozenset(), value),
    # Not dict.copy, which calls an overridden keys() and __getitem__.
    dict: lambda value: dict(dict.items(value)),
}

_SAMPLES: dict[type, Any] = {
    ipaddress.IPv4Network: ipaddress.IPv4Network("0.0.0.0/32"),
    ipaddress.IPv6Network: ipaddress.IPv6Network("::/128"),
    ipaddress.IPv4Interface: ipaddress.IPv4Interface("0.0.0.0/32"),
    ipaddress.IPv6Interface: ipaddress.IPv6Interface("::/128"),
    SecretStr: SecretStr(""),
    SecretBytes: SecretBytes(b""),
    Secret: Secret(0),
    **dict.fromkeys(URLS, AnyUrl("http://a")),
}


def own_attributes(cls: type) -> frozenset[str]:
    """Return the attributes that an instance's reduced value already covers."""
    sample = next((_SAMPLES[base] for base in cls.__mro__ if base in _SAMPLES), None)
    cached = {
        name
        for base in cls.__mro__
        if base in REDUCED or base.__module__ == ipaddress.__name__
        for name, member in vars(base).items()
        if isinstance(member, functools.cached_property)
    }
    return frozenset(state_reader(type(sample))(sample)) | cached
