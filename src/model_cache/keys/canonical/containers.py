"""Lists, tuples, sets and dicts of exactly these types."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from model_cache.keys.canonical.identities import counted
from model_cache.keys.canonical.leaves import Encode, pack_doubles
from model_cache.keys.canonical.refusals import item_of, refuse
from model_cache.keys.canonical.structures import Selection

# The tag of each container type, and its tag if it contains only floats.
CONTAINERS: dict[type, tuple[bytes, bytes]] = {
    list: (b"l", b"L"),
    tuple: (b"t", b"V"),
    set: (b"h", b""),
    frozenset: (b"j", b""),
    dict: (b"m", b""),
}


def container_encoder(
    cls: type, encode_key: Encode, encode: Encode, *, ordered: bool = True
) -> Encode:
    """Return the encoder for a container type, from those of its keys and its items.

    Args:
        cls: the type.
        encode_key: encodes a dict's keys.
        encode: encodes items.
        ordered: whether the order of a dict's items counts.
    """
    tag, packed_tag = CONTAINERS[cls]

    def encode_sequence(values: Sequence[Any]) -> bytes:
        if set(map(type, values)) == {float}:  # an embedding: packed, much faster
            return b"%b%x;%b" % (packed_tag, len(values), pack_doubles(values))
        parts: list[bytes] = []
        try:
            parts.extend(map(encode, values))
        except Exception as error:
            refuse(error, f"[{len(parts)}]")
        return b"%b%x;%b" % (tag, len(parts), b"".join(parts))

    def encode_set(values: Collection[Any]) -> bytes:
        return tag + counted(sorted(map(encode, values)))

    if cls is dict:
        if ordered:
            return _dict_encoder(tag, encode_key, encode)
        return _pairs_encoder(tag, encode_key, encode, {}, ordered=False)
    return encode_set if cls in (set, frozenset) else encode_sequence


def _dict_encoder(tag: bytes, encode_key: Encode, encode: Encode) -> Encode:
    def encode_dict(value: dict[Any, Any]) -> bytes:
        parts = [b"%b%x;" % (tag, len(value))]
        key = None
        try:
            for key, item in value.items():
                parts += (encode_key(key), encode(item))
        except Exception as error:
            refuse(error, item_of(key))
        return b"".join(parts)

    return encode_dict


def _pairs_encoder(
    tag: bytes, encode_key: Encode, encode: Encode, own: Mapping[str, Encode], *, ordered: bool
) -> Encode:
    def encode_dict(value: Mapping[Any, Any]) -> bytes:
        parts: list[tuple[bytes, bytes]] = []
        key = None
        try:
            for key, item in value.items():
                encode_item = own.get(key, encode) if type(key) is str else encode
                parts.append((encode_key(key), encode_item(item)))
        except Exception as error:
            refuse(error, item_of(key))
        if not ordered:
            parts.sort()  # by key; several NaNs have equal bytes, so by item as well
        return b"%b%x;%b" % (tag, len(parts), b"".join(map(b"".join, parts)))

    return encode_dict


def selected_dict_encoder(
    selection: Selection, own: Mapping[str, Encode], encode: Encode, *, ordered: bool
) -> Encode:
    """Return the encoder for a dict of which some items are part of the key.

    Args:
        selection: which items, by their keys.
        own: the encoders of items of which only a part is included.
        encode: encodes a whole key or item.
        ordered: whether the order of the items counts.
    """
    encode_whole = container_encoder(dict, encode, encode, ordered=ordered)
    encode_some = _pairs_encoder(CONTAINERS[dict][0], encode, encode, own, ordered=ordered)

    def encode_dict(value: dict[Any, Any]) -> bytes:
        return encode_some(selection.of(value)) if selection.applies(value) else encode_whole(value)

    return encode_dict
