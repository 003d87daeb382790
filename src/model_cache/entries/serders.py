"""The built-in serders, which convert predictions to bytes and back.

Each has a name for the option and an id for the entries. They write field names, never aliases,
and leave out fields that are not set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import msgpack
import pydantic_core
from pydantic import BaseModel

from model_cache.entries.registry import Registry
from model_cache.protocols import Serder
from model_cache.pydantic_attributes import serializer, validator


class JSONSerder:
    """JSON, written by pydantic-core: readable in redis-cli."""

    name = "JSON"
    id = 1

    def dumps(self, prediction: BaseModel) -> bytes:
        return serializer(prediction).to_json(
            prediction, by_alias=False, exclude_unset=True, round_trip=True, warnings=False
        )

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        loaded: BaseModel = validator(schema).validate_json(data, by_alias=False, by_name=True)
        return loaded

    def reader(self, data: bytes, schema: type[BaseModel]) -> Callable[[], BaseModel]:
        """Return what reads `data`, to a new object each time."""
        validate = validator(schema).validate_json
        return partial(validate, data, by_alias=False, by_name=True)


class MessagePackSerder:
    """MessagePack: a little smaller than JSON; preserves bytes, NaN and infinities."""

    name = "MessagePack"
    id = 2

    def dumps(self, prediction: BaseModel) -> bytes:
        return _packed(_dumped(prediction))

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        loaded: BaseModel = validator(schema).validate_python(
            _unpacked(data), by_alias=False, by_name=True
        )
        return loaded


class ValuesSerder:
    """MessagePack of the values alone, in the order of the fields' names, for packed entries.

    The names are in the key, hence known to every reader. A prediction with fields that are not
    set, or with more fields than its schema, has no such form.
    """

    name = "values"
    id = 3

    def dumps(self, prediction: BaseModel) -> bytes:
        dumped = _dumped(prediction)
        names = _sorted_names(type(prediction))
        if len(dumped) != len(names):
            raise ValueError("not exactly the fields of the schema")
        return _packed([dumped[name] for name in names])

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        named = dict(zip(_sorted_names(schema), _unpacked(data), strict=True))
        loaded: BaseModel = validator(schema).validate_python(named, by_alias=False, by_name=True)
        return loaded


def _dumped(prediction: BaseModel) -> Any:
    return serializer(prediction).to_python(
        prediction, by_alias=False, exclude_unset=True, round_trip=True, warnings=False
    )


@lru_cache(maxsize=256)
def _sorted_names(schema: type[BaseModel]) -> tuple[str, ...]:
    return tuple(sorted(schema.model_fields))


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, default=_plain, unicode_errors="surrogatepass")
    return packed


def _unpacked(data: bytes) -> Any:
    # unpackb bounds every container by len(data).
    return msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogatepass")


def _plain(value: Any) -> Any:
    return pydantic_core.to_jsonable_python(value, by_alias=False)


JSON = JSONSerder()
MESSAGE_PACK = MessagePackSerder()
VALUES = ValuesSerder()
SERDERS: Registry[Serder] = Registry("serder", Serder, [JSON, MESSAGE_PACK, VALUES])

PLAIN: dict[int, Serder] = {
    ord("{"): JSON,
    **dict.fromkeys([*range(0x80, 0x90), 0xDE, 0xDF], MESSAGE_PACK),  # fixmap, map 16, map 32
    **dict.fromkeys([*range(0x90, 0xA0), 0xDC, 0xDD], VALUES),  # fixarray, array 16, array 32
}
"""The serder that wrote an entry without an envelope, by the entry's first byte."""


def register_serder(serder: Serder) -> None:
    """Register a serder under its name (for the option) and its id (for entries).

    Args:
        serder: has `name`, `id` (128 to 255), `dumps` and `loads`: see `model_cache.Serder`.

    Raises:
        ConfigurationError: it lacks one of these, or its name or id is already used.
    """
    SERDERS.register(serder)
