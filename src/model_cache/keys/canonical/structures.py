"""Objects with named attributes: models and dataclasses, whole or with a selection of fields.

Each class is compiled to a function once. The form is a head (tag and class), the sorted names of
the attributes, and their values; the fast and the slow path write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.attributes import State
from model_cache.keys.canonical.enums import encode_members
from model_cache.keys.canonical.identities import annotation_identity, counted, text
from model_cache.keys.canonical.leaves import Encode, pack_double
from model_cache.keys.canonical.refusals import attribute, refuse

Tree: TypeAlias = Mapping[str, "Tree | None"]
"""Dotted paths as a tree: maps a name to the paths below it, or to None for the whole value."""


class KeyTree(dict[str, "Tree | None"]):
    """A tree whose names are also the keys of a dict, not only the fields of structures."""


@dataclass(frozen=True)
class Selection:
    """Which fields of a structure are part of the key.

    Attributes:
        tree: the paths that the user named.
        keep: True to include only these, False to exclude them.
    """

    tree: Tree
    keep: bool

    def omits(self, name: str) -> bool:
        """Return whether the whole field is excluded."""
        if self.keep:
            return name not in self.tree
        return name in self.tree and self.tree[name] is None

    def inside(self, name: str) -> Selection | None:
        """Return the selection inside an included field; None for the whole field."""
        below = self.tree.get(name)
        return None if below is None else Selection(below, self.keep)

    def without(self, names: Collection[str]) -> Selection:
        """Return the selection of other names than these."""
        tree = {name: below for name, below in self.tree.items() if name not in names}
        return Selection(tree, self.keep)

    def applies(self, *names: Collection[str]) -> bool:
        """Return whether to select from a value with these names.

        If it has none of the fields to include, all of it is: nothing says what to leave out.
        """
        return not self.keep or not all(map(self.tree.keys().isdisjoint, names))

    def of(self, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Return the items that are part of the key; names that are not a str are not selected."""
        return {
            name: item
            for name, item in values.items()
            if not (self.omits(name) if type(name) is str else self.keep)
        }

    def items(self, values: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, Selection | None]]:
        """Yield the items of a dict that are part of the key, each with the selection inside it."""
        if not isinstance(self.tree, KeyTree):  # it names fields of the dict's values
            yield from ((key, item, self) for key, item in values.items())
            return
        for key, item in (self.of(values) if self.applies(values) else values).items():
            yield key, item, self.inside(key) if type(key) is str else None

    def encoders(self, select: Callable[[Selection], Encode]) -> dict[str, Encode]:
        """Return an encoder for each value of which only a part is included."""
        inside = {name: self.inside(name) for name in self.tree}
        return {name: select(below) for name, below in inside.items() if below is not None}


_NONE: Mapping[str, Encode] = MappingProxyType({})

# The most common types are encoded inline: a function call for each would double the cost.
_IN_PLACE = {
    int: 'b"i%x;" % v if type(v := state[{name!r}]) is int else other(v)',
    float: 'b"f" + pack(v) if type(v := state[{name!r}]) is float else other(v)',
    bool: 'b"T" if (v := state[{name!r}]) is True else b"F" if v is False else other(v)',
}
# A member with an attribute added later is another value. A few members are faster to compare
# one by one.
_MEMBER = "form if (form := {found}) and len(v.__dict__) == size{number} else other(v)"
_MEMBER_BY_ID = "ready{number}.get(id(v := state[{name!r}]))"
_MOST_BY_NAME = 6
_OTHER = "other(state[{name!r}])"
_CODE = """
def encode_state(state, tail=b""):
    if {unexpected}:
        return rest(state, tail)
    try:
{lines}
    except KeyError:
        return rest(state, tail)
    except Exception as error:
        done = sum(name.startswith("p") for name in locals())
        refuse(error, names[done])
    return b"".join((head, {parts} tail))
"""


class EncodeState(Protocol):
    """Encodes attributes and appends `tail`."""

    def __call__(self, state: State, tail: bytes = b"") -> bytes: ...


def compile_fields(
    head: bytes,
    fields: Mapping[str, Any],
    encode: Encode,
    selection: Selection | None = None,
    own: Mapping[str, Encode] = _NONE,
) -> EncodeState:
    """Compile the encoding of an object's attributes.

    Args:
        head: a tag and the class.
        fields: the declared fields with their annotations. Values of other types and undeclared
            attributes are also encoded, only slower.
        encode: encodes any value.
        selection: which fields to include; None for all.
        own: the encoders of fields of which only a part is included.
    """
    names = sorted(name for name in fields if selection is None or not selection.omits(name))
    scope: dict[str, Any] = {
        "declared": fields.keys(),
        "head": head + counted(map(text, names)),
        "names": names,
        "other": encode,
        "own": own,
        "pack": pack_double,
        "refuse": refuse,
        "rest": _slow_path(head, encode, own, selection),
        "size": len(fields),
    }
    exec(_fast_path(fields, names, scope), scope)  # as dataclasses does; names become literals
    encode_state: EncodeState = scope["encode_state"]
    return encode_state


def _slow_path(
    head: bytes, encode: Encode, own: Mapping[str, Encode], selection: Selection | None
) -> EncodeState:
    """Return a function that encodes attributes that do not match the declared fields."""

    def rest(state: State, tail: bytes = b"") -> bytes:
        names = sorted(name for name in state if selection is None or not selection.omits(name))
        parts = [head, counted(map(_name, names))]
        for name in names:
            try:
                if name == "__orig_class__":  # set by a parametrized generic class
                    parts.append(b"G" + annotation_identity(state[name]))
                else:
                    parts.append(own.get(name, encode)(state[name]))
            except Exception as error:
                refuse(error, attribute(name))
        parts.append(tail)
        return b"".join(parts)

    return rest


def _fast_path(fields: Mapping[str, Any], names: list[str], scope: dict[str, Any]) -> str:
    """Return code that encodes attributes that match the declared fields; it runs in `scope`."""
    lines: list[str] = []
    for number, name in enumerate(names):
        kind = fields[name]
        code = _IN_PLACE.get(kind, _OTHER) if isinstance(kind, type) else _OTHER
        if name in scope["own"]:
            code = "own[{name!r}](state[{name!r}])"
        elif isinstance(kind, type) and issubclass(kind, Enum):
            code = _member_code(kind, scope["other"], number, scope) or _OTHER
        lines.append(f"        p{number} = " + code.format(name=name, number=number))
    # If all declared fields are present, comparing the number is enough to exclude others; if an
    # ignored one may be missing, it is not.
    unexpected = "len(state) != size" if len(names) == len(fields) else "state.keys() != declared"
    return _CODE.format(
        unexpected=unexpected,
        lines="\n".join(lines) or "        pass",
        parts=" ".join(f"p{number}," for number in range(len(names))),
    )


def _member_code(cls: type[Enum], encode: Encode, number: int, scope: dict[str, Any]) -> str:
    """Return code that looks up the bytes of an enum member; "" if a lookup is not enough."""
    members = encode_members(cls, encode)
    if not members:
        return ""
    scope[f"ready{number}"] = {id(member): form for member, form in members}
    scope[f"size{number}"] = len(members[0][0].__dict__)
    if len(members) > _MOST_BY_NAME:
        return _MEMBER.replace("{found}", _MEMBER_BY_ID)
    found: list[str] = []
    for place, (member, form) in enumerate(members):
        scope |= {f"member{number}_{place}": member, f"form{number}_{place}": form}
        value = "v" if found else "(v := state[{name!r}])"
        found.append(f"form{{number}}_{place} if {value} is member{{number}}_{place} else ")
    return _MEMBER.replace("{found}", f"({''.join(found)}None)")


def encode_named(
    values: Mapping[str, Any], encode: Encode, own: Mapping[str, Encode] = _NONE
) -> bytes:
    """Encode a model's extra fields or private attributes, in order.

    Args:
        values: the values by name.
        encode: encodes any value.
        own: the encoders of values of which only a part is included.
    """
    parts = [b"m%x;" % len(values)]
    for name, item in values.items():
        try:
            parts += (_name(name), own.get(name, encode)(item))
        except Exception as error:
            refuse(error, attribute(name))
    return b"".join(parts)


def _name(name: object) -> bytes:
    if type(name) is not str:
        raise NotCacheableError("the name of an attribute is not a str")
    return text(name)
