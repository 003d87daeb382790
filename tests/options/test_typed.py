"""The options of `Cache`, `cache.model` and its other methods are those of the decorator."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

from model_cache import Cache, RedisCachingDecorator
from model_cache.options.typed import CacheOptions, EntryOptions, ModelOptions

SIGNATURE = typing.get_type_hints(RedisCachingDecorator.__init__)
OPTIONS = {*inspect.signature(RedisCachingDecorator).parameters} - {"unknown"}
NAMED = {"url", "revision"}  # they are parameters with names
TYPED = [CacheOptions, EntryOptions, ModelOptions]


@pytest.mark.parametrize("typed", TYPED, ids=lambda typed: str(typed.__name__))
def test_an_option_has_the_type_that_it_has_for_the_decorator(typed: type[Any]) -> None:
    hints = typing.get_type_hints(typed)
    assert hints == {name: SIGNATURE[name] for name in hints}


def test_every_option_belongs_to_the_cache_or_to_a_model() -> None:
    both = {*typing.get_type_hints(CacheOptions), *typing.get_type_hints(ModelOptions)}
    assert both | NAMED == OPTIONS


def test_an_option_of_a_model_alone_is_not_one_of_the_cache() -> None:
    cache, entry = typing.get_type_hints(CacheOptions), typing.get_type_hints(EntryOptions)
    model = {*typing.get_type_hints(ModelOptions)} - {*entry}
    assert model & {*cache} == {"serder"}  # a default for all models, or one model's own


@pytest.mark.parametrize("method", [Cache.memoize, Cache.memoize_rows, Cache.wrap])
def test_a_parameter_with_a_name_has_the_type_that_it_has_for_the_decorator(method: Any) -> None:
    assert typing.get_type_hints(method)["revision"] == SIGNATURE["revision"]


def test_the_url_has_the_type_that_it_has_for_the_decorator() -> None:
    assert typing.get_type_hints(Cache.__init__)["url"] == SIGNATURE["url"]
