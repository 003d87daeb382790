"""The options of the decorator: four descriptions that agree, and no changes after creation."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest

from model_cache import RedisCachingDecorator
from model_cache.options.config import Config
from model_cache.stores.url import DEFAULT
from tests.checkout import REPOSITORY
from tests.models import FunctionModel, person
from tests.servers import Server

PAGE = REPOSITORY / "docs" / "options.md"
PARAMETERS = {
    name: parameter
    for name, parameter in inspect.signature(RedisCachingDecorator).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
}
# Which field of `Config` an option ends up in, where their names differ.
FIELDS = {
    **dict.fromkeys(("host", "port", "database", "url", "username", "password"), "endpoint"),
    **{name: "endpoint" for name in PARAMETERS if name.startswith("ssl_")},
    "proxied": "endpoint",
    "use_compression": "compressor",
    "reduced_precision": "places",
    "reduced_precision_fields": "places",
    "number_of_places": "places",
}
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", re.M)


def documented() -> list[list[tuple[str, str]]]:
    """Return the options and their defaults in each table of the page."""
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")
    return [rows for section in sections if (rows := ROW.findall(section))]


def test_the_docstring_describes_every_option_in_the_order_of_the_signature() -> None:
    docstring = inspect.getdoc(RedisCachingDecorator) or ""
    arguments = docstring.partition("Args:\n")[2].partition("\n\nRaises:")[0]
    assert re.findall(r"^    (\w+): ", arguments, re.M) == list(PARAMETERS)


def test_the_page_describes_every_option_in_the_order_of_the_signature() -> None:
    tables = [[name for name, _ in rows] for rows in documented()]
    assert sorted(name for table in tables for name in table) == sorted(PARAMETERS)
    order = list(PARAMETERS).index
    for table in tables:
        assert table == sorted(table, key=order)


def test_the_page_names_the_defaults_of_the_signature() -> None:
    written = {"none": None, "true": True, "false": False}
    for name, default in (row for rows in documented() for row in rows):
        expected: Any = PARAMETERS[name].default
        assert default == str(expected) or written.get(default, default) == expected, name


def test_the_checked_options_have_the_order_of_the_signature() -> None:
    fields = [field.name for field in dataclasses.fields(Config)]
    assert list(dict.fromkeys(FIELDS.get(name, name) for name in PARAMETERS)) == fields


def test_only_the_connection_tells_a_default_from_the_same_value_given() -> None:
    told_apart = {name for name, each in PARAMETERS.items() if isinstance(each.default, DEFAULT)}
    assert told_apart == {"host", "port", "database"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_option_can_be_neither_changed_nor_deleted_nor_read_back(name: str) -> None:
    model = FunctionModel()
    for decorator in (RedisCachingDecorator(), RedisCachingDecorator().set_model(model)):
        way_out = rf"{name!r} is an option .* RedisCachingDecorator\({name}=\.\.\., \.\.\.\)"
        with pytest.raises(AttributeError, match=way_out):
            setattr(decorator, name, 5)
        with pytest.raises(AttributeError, match=way_out):
            delattr(decorator, name)
        with pytest.raises(AttributeError, match=way_out):
            getattr(decorator, name)
        assert not hasattr(decorator, name)
    assert not hasattr(model, name)


def test_other_attributes_are_the_models(server: Server) -> None:
    model: Any = FunctionModel()
    model.prefix = "the model's own"
    with RedisCachingDecorator(url=server.url, prefix="the cache's") as decorator:
        decorator.set_model(model)
        assert decorator.prefix == "the model's own"
        decorator.threshold = 3
        assert model.threshold == 3
        del decorator.threshold
        assert not hasattr(model, "threshold")
        with pytest.raises(AttributeError, match="'FunctionModel' object has no attribute"):
            _ = decorator.threshold
        assert decorator.predict(person()) == model.predict(person())
