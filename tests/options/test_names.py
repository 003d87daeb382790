"""An option that does not exist is refused with a hint that helps."""

from __future__ import annotations

import inspect

import pytest

from model_cache import ConfigurationError, RedisCachingDecorator
from model_cache.options import names

OPTIONS = set(inspect.signature(RedisCachingDecorator).parameters) - {"unknown"}


def message(name: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        RedisCachingDecorator(**{name: 1})  # type: ignore[arg-type]
    assert raised.value.option == name
    return raised.value.problem


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("db", "database"),
        ("redis_url", "url"),
        *((name, "ttl") for name in ("expire", "expiry", "expires_in", "time_to_live", "ex")),
        ("user", "username"),
        *((name, "password") for name in ("passwd", "pass")),
        ("socket_timeout", "timeout"),
        *((name, "prefix") for name in ("key_prefix", "namespace")),
        *((name, "near_cache") for name in ("maxsize", "max_size")),
        *((name, "use_compression") for name in ("compression", "compress")),
        *((name, "serder") for name in ("serializer", "serde")),
        *((name, "ignored_fields") for name in ("ignore", "exclude", "ignored")),
        *((name, "hashing_fields") for name in ("fields", "key_fields", "include")),
        *((name, "number_of_places") for name in ("precision", "decimals", "places")),
        ("ssl_ca", "ssl_ca_certs"),
    ],
)
def test_other_libraries_names_are_understood(given: str, meant: str) -> None:
    assert message(given) == f"unknown option; did you mean {meant!r}?"
    assert message(given.upper().replace("_", "-")) == message(given)


def test_a_misspelled_option_or_alias_gets_the_nearest_name() -> None:
    assert message("tll") == "unknown option; did you mean 'ttl'?"
    assert message("ignored_feilds") == "unknown option; did you mean 'ignored_fields'?"
    assert message("serialzer") == "unknown option; did you mean 'serder'?"


def test_a_hint_says_what_replaces_an_option_that_has_no_equal() -> None:
    assert "there are no retries" in message("retries")
    assert "'ttl'? It is in seconds" in message("px")
    assert "rediss://" in message("ssl")
    assert "set_model" in message("model")


def test_a_name_like_no_other_gets_the_page_instead_of_all_options() -> None:
    assert message("xyzzy") == "unknown option; docs/options.md lists all options"


def test_the_hints_name_options_that_exist_and_no_option_is_an_alias() -> None:
    assert set(names._ALIASES) <= OPTIONS
    assert not OPTIONS & (names._OPTIONS.keys() | names._HINTS.keys())
    assert len(names._OPTIONS) == sum(map(len, names._ALIASES.values()))
    assert not names._OPTIONS.keys() & names._HINTS.keys()
