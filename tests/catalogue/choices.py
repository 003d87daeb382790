"""Schemas of enums and literals."""

import enum
from typing import Literal

from hypothesis import strategies as st
from pydantic import BaseModel

from tests.catalogue.case import Cases

CASES = Cases()
built = CASES.build


class Color(str, enum.Enum):  # noqa: UP042 - as most schemas write it
    red = "red"
    green = "green"
    crimson = "red"  # an alias


class Level(enum.IntEnum):
    low = 1
    high = 2


class Plain(enum.Enum):
    one = 1
    text_one = "1"
    pair = (1, 2)


class Permission(enum.Flag):
    read = 1
    write = 2
    execute = 4


class Mode(enum.IntFlag):
    a = 1
    b = 2


class Enums(BaseModel):
    color: Color
    level: Level
    plain: Plain
    permission: Permission
    mode: Mode


built(
    Enums,
    color=st.sampled_from(Color),
    level=st.sampled_from(Level),
    plain=st.sampled_from(Plain),
    permission=st.integers(0, 7).map(Permission),
    mode=st.integers(0, 11).map(Mode),
    kept=False,  # a tuple for a value does not come back from JSON, nor from MessagePack
)


class Choice(BaseModel):
    word: Literal["a", "b", "1"]
    mixed: Literal["a", 1, b"1", None, Level.high] = None


built(
    Choice,
    word=st.sampled_from(["a", "b", "1"]),
    mixed=st.sampled_from(["a", 1, b"1", None, Level.high]),
)
