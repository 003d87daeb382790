"""A prediction decodes unchanged, or is refused."""

from __future__ import annotations

import collections

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from model_cache.entries.codec import Codec, EntryRefusedError
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.serders import JSON, MESSAGE_PACK
from tests.catalogue import Case
from tests.properties.cases import each_case, fewer_examples
from tests.properties.pictures import picture

KEY = b"catalogue/1/key"
SERDERS = (JSON, MESSAGE_PACK)
COMPRESSORS_OF_OURS = [COMPRESSORS.named(name) for name in ("snappy", "zstd", "lz4")]


def comes_back(writer: Codec, readers: list[Codec], prediction: BaseModel) -> bool:
    """Whether a prediction becomes an entry; if so, each reader must give it back as it was."""
    try:
        entry = writer.encode(KEY, prediction)
    except EntryRefusedError:
        return False
    for reader in readers:
        read = reader.decode(KEY, entry)
        assert read is not prediction
        assert type(read) is type(prediction)
        assert picture(read, prediction=True) == picture(prediction, prediction=True)
        assert reader.decode(KEY, entry) is not read, "not an object of its own"
    return True


@each_case
def test_a_prediction_comes_back_as_it_was_or_is_refused(case: Case) -> None:
    outcomes: collections.Counter[bool] = collections.Counter()
    plain = [Codec(case.schema, serder=serder) for serder in SERDERS]
    sealed = [Codec(case.schema, serder=serder, integrity=True) for serder in SERDERS]

    @given(case.instances)
    def back_and_forth(prediction: BaseModel) -> None:
        kept = [
            comes_back(writer, readers, prediction)
            for readers in (plain, sealed)
            for writer in readers
        ]
        outcomes.update(kept)
        assert all(kept) or not case.kept, "an ordinary prediction is not cached"

    back_and_forth()
    if outcomes[False]:
        print(f"{case}: {outcomes[False]} of {outcomes.total()} predictions refused")


@each_case
def test_a_compressed_prediction_comes_back_as_it_was_or_is_refused(case: Case) -> None:
    many = create_model("Many", items=(list[case.schema], ...))  # type: ignore[name-defined]
    codecs = [
        Codec(many, serder=serder, compressor=compressor, integrity=integrity)
        for integrity in (False, True)
        for serder in SERDERS
        for compressor in COMPRESSORS_OF_OURS
    ]
    plain = Codec(many)
    saved = []

    @fewer_examples
    @given(case.instances, st.sampled_from(codecs))
    def back_and_forth(prediction: BaseModel, codec: Codec) -> None:
        repeated = many.model_construct(items=[prediction] * 10)
        kept = comes_back(codec, [codec], repeated)
        assert kept or not case.kept, "an ordinary prediction is not cached"
        if kept:
            saved.append(len(plain.encode(KEY, repeated)) - len(codec.encode(KEY, repeated)))

    back_and_forth()
    assert not case.kept or max(saved) > 0, "nothing was compressed"
