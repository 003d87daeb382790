"""pydantic models: their fields, extra fields and private attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from model_cache.keys.canonical.attributes import slot_reader, state_reader
from model_cache.keys.canonical.leaves import Encode
from model_cache.keys.canonical.structures import EncodeState, Selection, encode_named
from model_cache.pydantic_attributes import EXTRA, FIELDS_SET, PRIVATE

_STR = frozenset((str,))


def model_encoder(
    cls: type[BaseModel],
    encode_fields: EncodeState,
    encode_tail: Callable[[Any, Any], bytes],
    encode: Encode | None = None,
) -> Encode:
    """Return the encoder of a whole model, or of one of which some fields are ignored.

    Args:
        cls: the model's class.
        encode_fields: encodes the fields.
        encode_tail: encodes the extra fields and private attributes.
        encode: encodes the names of the fields that are set; None to exclude them.
    """
    state_of, (extra_of, private_of) = state_reader(cls), _readers(cls)
    fields_set_of = slot_reader(cls, BaseModel, FIELDS_SET)
    names = set(cls.model_fields)
    # The most frequent tail of a prediction.
    all_set = b"" if encode is None else b"NN" + encode(names)

    def encode_model(value: BaseModel) -> bytes:
        extra, private = extra_of(value), private_of(value)
        tail = encode_tail(extra, private) if extra or private else b"NN"
        if encode is not None:
            fields_set = fields_set_of(value)
            if not extra and not private and _is_exactly(fields_set, names):
                return encode_fields(state_of(value), all_set)
            tail += encode(fields_set)
        return encode_fields(state_of(value), tail)

    return encode_model


def _is_exactly(found: object, names: set[str]) -> bool:
    """Return whether `found` is the same set of str, and not only an equal one."""
    return type(found) is set and found == names and _STR.issuperset(map(type, found))


def kept_model_encoder(
    cls: type[BaseModel],
    encode_fields: EncodeState,
    encode_tail: Callable[[Any, Any], bytes],
    selection: Selection,
    whole: Encode | None,
) -> Encode:
    """Return the encoder of a model of which only some fields are included.

    Args:
        cls: the model's class.
        encode_fields: encodes the included fields.
        encode_tail: encodes the included extra fields and private attributes.
        selection: which extra fields and private attributes are included.
        whole: encodes a model that has none of them; None if the class declares one.
    """
    state_of, (extra_of, private_of) = state_reader(cls), _readers(cls)

    def encode_model(value: BaseModel) -> bytes:
        state, extra, private = state_of(value), extra_of(value) or {}, private_of(value) or {}
        if selection.applies(extra, private):
            # Without a tail, the form has no end that another form could not begin with.
            return b"+" + encode_fields(state, encode_tail(extra, private))
        return whole(value) if whole and not selection.applies(state) else encode_fields(state)

    return encode_model


def tail_encoder(
    encode: Encode, own: Mapping[str, Encode], selection: Selection | None, *, ordered: bool
) -> Callable[[Any, Any], bytes]:
    """Return a function that encodes a model's extra fields and private attributes.

    Args:
        encode: encodes any value.
        own: the encoders of values of which only a part is included.
        selection: which of them to include; None for all.
        ordered: whether the order of the extra fields counts; that of private attributes does not.
    """

    def encoded(values: Mapping[str, Any] | None, *, ordered: bool) -> bytes:
        if values and selection is not None:
            values = selection.of(values)
        if not values:
            return b"N"
        return encode_named(values if ordered else dict(sorted(values.items())), encode, own)

    return lambda extra, private: encoded(extra, ordered=ordered) + encoded(private, ordered=False)


def _readers(cls: type[BaseModel]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return slot_reader(cls, BaseModel, EXTRA), slot_reader(cls, BaseModel, PRIVATE)
