"""Objects with named attributes: models and dataclasses, whole or by a selection of fields.

Each class is compiled once to a function. The form is a head (tag and class), the names of the
attributes, sorted, and their values; it is the same whichever road wrote it.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, TypeAlias

from model_cache.canonical.identities import counted, text
from model_cache.canonical.leaves import LEAVES, Encode, pack_double
from model_cache.errors import NotCacheableError

State: TypeAlias = Mapping[str, Any]
Tree: TypeAlias = Mapping[str, "Tree | None"]
"""Dotted paths, taken apart: a name leads to the paths below it, or to None for all of it."""


@dataclass(frozen=True)
class Selection:
    """Which fields of a structure count.

    Attributes:
        tree: the paths that the user named.
        keep: whether these are the only ones that count, or the only ones that don't.
    """

    tree: Tree
    keep: bool

    def omits(self, name: str) -> bool:
        """Whether the field does not count at all."""
        if self.keep:
            return name not in self.tree
        return name in self.tree and self.tree[name] is None

    def inside(self, name: str) -> Selection | None:
        """Return what counts inside a field that counts; None if all of it does."""
        below = self.tree.get(name)
        return None if below is None else Selection(below, self.keep)


# The types met most are encoded in place: calling a function for each costs as much again.
_IN_PLACE = {
    int: 'b"i%x;" % v if type(v := state[{name!r}]) is int else other(v)',
    float: 'b"f" + pack(v) if type(v := state[{name!r}]) is float and v == v else other(v)',
    bool: 'b"T" if (v := state[{name!r}]) is True else b"F" if v is False else other(v)',
    Enum: "ready.get(id(v := state[{name!r}])) or other(v)",
}
_OTHER = "other(state[{name!r}])"
_CODE = """
def encode_state(state):
    if {unexpected}:
        return rest(state)
    try:
{lines}
    except KeyError:
        return rest(state)
    except NotCacheableError as error:
        done = sum(name.startswith("p") for name in locals())
        raise error.inside(names[done]) from None
    return b"".join((head, {parts}))
"""


def compile_fields(
    head: bytes,
    fields: Mapping[str, Any],
    encode: Encode,
    selection: Selection | None = None,
    select: Callable[[Selection], Encode] | None = None,
) -> Callable[[State], bytes]:
    """Compile the encoding of an object's attributes.

    Args:
        head: a tag and the class.
        fields: the declared fields with their annotations. Values of other types, and other
            attributes, are encoded all the same, only slower.
        encode: encodes any value.
        selection: which fields count; None for all.
        select: makes the encoder for values of which only a selection counts.
    """
    own: dict[str, Encode] = {}
    if selection is not None and select is not None:
        for name in fields:
            inside = None if selection.omits(name) else selection.inside(name)
            if inside is not None:
                own[name] = select(inside)

    def rest(state: State) -> bytes:
        """The slow road, for attributes set or missing against the declaration."""
        names = sorted(name for name in state if selection is None or not selection.omits(name))
        parts = [head, counted(map(text, names))]
        for name in names:
            try:
                parts.append(own.get(name, encode)(state[name]))
            except NotCacheableError as error:
                raise error.inside(name) from None
        return b"".join(parts)

    names = sorted(name for name in fields if selection is None or not selection.omits(name))
    lines: list[str] = []
    ready: dict[int, bytes] = {}
    for number, name in enumerate(names):
        kind = fields[name]
        if isinstance(kind, type) and issubclass(kind, Enum):
            # By id: hashing a member runs Python code. The class keeps its members alive.
            ready |= {
                id(member): encode(member)
                for member in kind.__members__.values()
                if type(member._value_) in LEAVES
            }
            kind = Enum
        code = _OTHER if not isinstance(kind, type) else _IN_PLACE.get(kind, _OTHER)
        if name in own:
            code = "own[{name!r}](state[{name!r}])"
        lines.append(f"        p{number} = " + code.format(name=name))
    # With all declared fields found, their number tells that there is nothing else; where one
    # may be missing, since it is ignored, it does not.
    unexpected = "len(state) != size" if len(names) == len(fields) else "state.keys() != declared"
    source = _CODE.format(
        unexpected=unexpected,
        lines="\n".join(lines) or "        pass",
        parts=" ".join(f"p{number}," for number in range(len(names))),
    )
    scope: dict[str, Any] = {
        "NotCacheableError": NotCacheableError,
        "declared": fields.keys(),
        "head": head + counted(map(text, names)),
        "names": names,
        "other": encode,
        "own": own,
        "pack": pack_double,
        "ready": ready,
        "rest": rest,
        "size": len(fields),
    }
    exec(source, scope)  # as dataclasses does; the names stand in it as literals
    encode_state: Callable[[State], bytes] = scope["encode_state"]
    return encode_state


def state_reader(cls: type) -> Callable[[Any], State]:
    """Compile the reading of an instance's attributes, be they in `__dict__` or in slots."""
    # pydantic keeps what is no field in slots of its own, which are read elsewhere.
    slots = [name for name in copyreg._slotnames(cls) if not name.startswith("__pydantic_")]  # type: ignore[attr-defined]
    if not slots:
        return attrgetter("__dict__") if cls.__dictoffset__ else lambda _: {}

    def read(value: Any) -> State:
        state = dict(getattr(value, "__dict__", {}))
        state.update({name: getattr(value, name) for name in slots if hasattr(value, name)})
        return state

    return read
