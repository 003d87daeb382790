"""Custom serders and compressors."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from model_cache import ConfigurationError, register_compressor, register_serder
from model_cache.entries.codec import Codec
from model_cache.entries.serders import SERDERS
from tests.entries.round_trips import KEY, round_trip
from tests.models import Echo


class Reversed:
    name = "reversed"
    id = 200

    def dumps(self, prediction: BaseModel) -> bytes:
        return prediction.model_dump_json().encode()[::-1]

    def loads(self, data: bytes, schema: type[BaseModel]) -> BaseModel:
        return schema.model_validate_json(data[::-1])


class Nothing:
    name = "nothing"
    id = 201

    def compress(self, data: bytes) -> bytes:
        return data[1:-1]

    def decompress(self, data: bytes, max_size: int) -> bytes:
        return b"{" + data + b"}"


@pytest.mark.usefixtures("_registries_restored")
def test_a_serder_and_a_compressor_of_ones_own() -> None:
    register_serder(Reversed())
    register_compressor(Nothing())
    register_serder(Reversed())  # once more, as a reloaded module would
    codec = Codec(Echo, serder=SERDERS.named("reversed"))
    assert round_trip(codec, Echo(text="abc"))[:5] == b"\xc1\x01\xc8\x00\x00"
    assert json.loads(codec.encode(KEY, Echo(text="x"))[5:][::-1]) == {"text": "x"}
    assert Codec(Echo).decode(KEY, codec.encode(KEY, Echo(text="x"))) == Echo(text="x")


REVERSED = Reversed()


@pytest.mark.usefixtures("_registries_restored")
def test_an_import_path_leads_to_a_serder() -> None:
    assert SERDERS.named("tests.entries.test_serders:REVERSED").name == "reversed"


@pytest.mark.usefixtures("_registries_restored")
def test_a_bad_serder_is_refused() -> None:
    class Taken(Reversed):
        name = "JSON"

    class LowId(Reversed):
        id = 2

    class Lacking:
        name = "lacking"
        id = 202

    for serder in (Taken(), LowId(), Lacking()):
        with pytest.raises(ConfigurationError, match="serder"):
            register_serder(serder)  # type: ignore[arg-type]
