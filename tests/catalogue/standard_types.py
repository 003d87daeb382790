"""The standard library's collections, paths, addresses and patterns."""

import collections
import ipaddress
import pathlib
import re
from fractions import Fraction
from typing import Any

import pydantic
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.catalogue.case import Cases
from tests.catalogue.plain_fields import Anything
from tests.catalogue.values import blobs, floats, integers, small, texts

CASES = Cases()
case, built = CASES.add, CASES.build


class Bytes(BaseModel):
    first: bytes
    second: bytes
    array: Any = None


built(
    Bytes,
    first=blobs,
    second=blobs,
    array=st.none() | blobs.map(bytearray),
    kept=False,  # a bytearray comes back as bytes
)


class Sets(BaseModel):
    numbers: set[int]
    words: frozenset[str]
    mixed: set[int | float | str | None] = set()
    pairs: frozenset[tuple[int, int]] = frozenset()


built(
    Sets,
    numbers=st.sets(integers, max_size=4),
    words=st.frozensets(texts, max_size=4),
    mixed=st.sets(small | floats | texts | st.none(), max_size=4),
    pairs=st.frozensets(st.tuples(small, small), max_size=3),
)


class SetsOfBytes(BaseModel):
    values: set[bytes | int]


built(
    SetsOfBytes,
    values=st.sets(blobs | small, max_size=4),
    kept=False,  # MessagePack has no sets, and JSON no bytes but UTF-8
)


class Dicts(BaseModel):
    by_text: dict[str, int]
    by_number: dict[int, str] = {}
    by_anything: dict[Any, Any] = {}


built(
    Dicts,
    by_text=st.dictionaries(texts, small, max_size=4),
    by_number=st.dictionaries(small, texts, max_size=4),
    by_anything=st.dictionaries(small | texts, small, max_size=3),
)


class Lists(BaseModel):
    numbers: list[int]
    nested: list[list[int]] = []
    pair: tuple[int, str] = (0, "")
    several: tuple[int, ...] = ()


built(
    Lists,
    numbers=st.lists(small, max_size=4),
    nested=st.lists(st.lists(small, max_size=3), max_size=3),
    pair=st.tuples(small, texts),
    several=st.lists(small, max_size=4).map(tuple),
)


class Collections(BaseModel):
    queue: collections.deque[int]
    ordered: collections.OrderedDict[str, int]
    counted: collections.Counter[str]
    defaulting: collections.defaultdict[str, int]


counts = st.dictionaries(st.sampled_from("abc"), small, max_size=3)
built(
    Collections,
    queue=st.lists(small, max_size=3).map(collections.deque),
    ordered=counts.map(collections.OrderedDict),
    counted=counts.map(collections.Counter),
    defaulting=counts.map(lambda items: collections.defaultdict(int, items)),
)
case(
    Anything,
    st.builds(
        lambda items, length, factory: Anything(
            value=collections.deque(items, length),
            other=collections.defaultdict(factory, dict.fromkeys(items)),
        ),
        st.lists(small, max_size=3),
        st.sampled_from([None, 2, 3]),
        st.sampled_from([None, int, float, list]),
    ),
    kept=False,
    name="Bounded deque and default factory",
)


class Places(BaseModel):
    path: pathlib.Path
    pure: pathlib.PurePosixPath
    windows: pathlib.PureWindowsPath
    v4: ipaddress.IPv4Address
    v6: ipaddress.IPv6Address
    network: ipaddress.IPv4Network
    interface: ipaddress.IPv6Interface
    url: pydantic.AnyUrl
    dsn: pydantic.PostgresDsn


names = st.sampled_from(["a", "b", "a/b", "../a", "a b", ".", "/a"])
urls = st.sampled_from(
    ["http://a.example/", "https://a.example/?q=1", "http://u:p@a.example:81/x#y", "ftp://b/"]
)
dsns = st.sampled_from(["postgres://u:p@h:1/db", "postgres://u@h1:1,h2:2/db", "postgresql://h/d"])
built(
    Places,
    path=names.map(pathlib.Path),
    pure=names.map(pathlib.PurePosixPath),
    windows=names.map(pathlib.PureWindowsPath),
    v4=st.ip_addresses(v=4),
    v6=st.ip_addresses(v=6),
    network=st.integers(0, 32).map(lambda bits: ipaddress.IPv4Network((0, bits))),
    interface=st.integers(0, 128).map(lambda bits: ipaddress.IPv6Interface((1, bits))),
    url=urls.map(pydantic.AnyUrl),
    dsn=dsns.map(pydantic.PostgresDsn),
)


class Mathematical(BaseModel):
    fraction: Fraction
    number: complex
    pattern: re.Pattern[str]


built(
    Mathematical,
    fraction=st.fractions(),
    number=st.complex_numbers(),
    pattern=st.builds(
        re.compile,
        st.sampled_from(["a", "a|b", "[a-z]+"]),
        st.sampled_from([re.NOFLAG, re.IGNORECASE]),
    ),
    kept=False,  # a pattern's flags are not dumped
)
