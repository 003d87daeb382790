"""Models with state besides their declared, visible fields."""

import datetime as dt
import uuid
from typing import Any

import pydantic
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
)

from tests.catalogue.case import Cases
from tests.catalogue.choices import Color
from tests.catalogue.structures import Inner, inners
from tests.catalogue.values import blobs, finite, floats, integers, small, surrogates, texts

CASES = Cases()
case, built = CASES.add, CASES.build


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int = 0


case(
    Open,
    st.builds(
        lambda known, extra: Open(known=known, **extra),
        small,
        st.dictionaries(st.sampled_from(["a", "b", "c"]), small | texts, max_size=3),
    ),
)


class OpenToInts(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]


case(
    OpenToInts,
    st.dictionaries(st.sampled_from(["a", "b"]), small).map(OpenToInts.model_validate),
)


class Aliased(BaseModel):
    plain: int = Field(0, alias="Plain")
    checked: int = Field(0, validation_alias=pydantic.AliasChoices("in", "into"))
    written: int = Field(0, serialization_alias="plain")
    deep: int = Field(0, validation_alias=pydantic.AliasPath("deep", "x", 1))


case(
    Aliased,
    st.builds(
        lambda a, b, c, d: Aliased.model_validate(
            {"Plain": a, "into": b, "written": c, "deep": {"x": [0, d]}}
        ),
        small,
        small,
        small,
        small,
    ),
)


class Computed(BaseModel):
    width: int
    height: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width * self.height


built(Computed, width=small, height=small)


class Excluding(BaseModel):
    shown: int
    hidden: int = Field(0, exclude=True)


case(
    Excluding,
    st.builds(Excluding, shown=small, hidden=small) | st.builds(Excluding, shown=small),
    kept=False,  # what is excluded is not dumped
)


class Private(BaseModel):
    shown: int
    _seed: int = PrivateAttr(0)
    _name: str = PrivateAttr()


def with_private(shown: int, seed: int, name: str | None) -> Private:
    made = Private(shown=shown)
    made._seed = seed
    if name is not None:
        made._name = name
    return made


case(
    Private,
    st.builds(with_private, small, small, st.none() | texts) | st.builds(Private, shown=small),
    kept=False,  # nor is what is private
)


class Derived(BaseModel):
    shown: int
    _twice: int = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._twice = self.shown * 2


built(Derived, shown=small, name="Private attributes derived from fields")


class Slotted(BaseModel):
    __slots__ = ("note",)
    shown: float


def with_slot(shown: float, note: str | None) -> Slotted:
    made = Slotted(shown=shown)
    if note is not None:
        object.__setattr__(made, "note", note)
    return made


case(Slotted, st.builds(with_slot, floats, st.none() | texts), kept=False, name="Model with slots")


class Secrets(BaseModel):
    text: SecretStr
    raw: SecretBytes
    number: Secret[int]


built(
    Secrets,
    text=texts.map(SecretStr),
    raw=blobs.map(SecretBytes),
    number=small.map(Secret[int]),
    kept=False,  # a dump masks them
)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    number: float
    when: dt.datetime
    identity: uuid.UUID
    color: Color
    pair: tuple[int, str]
    raw: bytes


built(
    Strict,
    number=finite,
    when=st.datetimes().map(lambda moment: moment.replace(fold=0)),
    identity=st.uuids(),
    color=st.sampled_from(Color),
    pair=st.tuples(small, texts),
    raw=texts.map(str.encode),
)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    number: int
    inner: Inner


built(Frozen, number=small, inner=inners)


class Numbers(RootModel[list[int]]):
    pass


class ByName(RootModel[dict[str, float]]):
    pass


class JustText(RootModel[str]):
    pass


case(Numbers, st.lists(integers, max_size=4).map(Numbers))
case(ByName, st.dictionaries(texts, floats, max_size=3).map(ByName))
case(JustText, (texts | surrogates).map(JustText))
