"""`decorator.cache_settings`: the settings in effect, for operators and the command."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from model_cache import CacheSettings, RedisCachingDecorator

SECRET = "s3cret-settings"


def test_the_settings_are_those_in_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://redis.example:6380/2")
    monkeypatch.setenv("MODEL_CACHE_DISABLED", "1")
    decorator = RedisCachingDecorator(
        prefix="p", ttl=timedelta(minutes=1), timeout=0.5, on_error="raise", write="background"
    )
    assert decorator.cache_settings == CacheSettings(
        store="redis.example:6380/2",
        prefix="p",
        ttl=60.0,
        timeout=0.5,
        on_error="raise",
        write="background",
        enabled=False,
    )


def test_the_settings_are_read_only() -> None:
    settings = RedisCachingDecorator().cache_settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.enabled = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "store"),
    [
        ("redis://user:{secret}@h:1/3", "h:1/3"),
        ("unix:///run/redis.sock?password={secret}", "/run/redis.sock/0"),
        ("redis+cluster://:{secret}@a:1,b:2", "a:1,b:2/0"),
        ("redis+sentinel://:{secret}@a:1,b:2/name/4?sentinel_password={secret}", "a:1,b:2/4"),
        ("embedded://", "embedded"),
    ],
)
def test_the_settings_hold_no_secret(url: str, store: str) -> None:
    given = url.format(secret=SECRET)
    decorator = RedisCachingDecorator(url=given, key_secret=SECRET, enabled=False)
    assert decorator.cache_settings.store == store
    assert SECRET not in repr(decorator.cache_settings)
