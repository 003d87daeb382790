"""The image service's settings: read from the environment, validated, without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.image_service.settings import Settings


def test_an_empty_environment_means_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"REDIS_URL": "", "CACHE_TTL": ""}) == Settings()


def test_every_setting_can_be_given(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    numbers = {
        "CACHE_TTL": "60",
        "CACHE_TIMEOUT": "0.5",
        "MAX_BODY_BYTES": "1000",
        "MAX_PIXELS": "2000",
        "MAX_REQUESTS": "3",
        "BODY_SECONDS": "4",
        "MAX_UPLOADS": "5",
    }
    place = {"REDIS_URL": "redis://user:s3cret@here", "REDIS_PASSWORD_FILE": str(secret)}
    settings = Settings.from_environment({**numbers, **place})
    assert settings == Settings(
        "redis://user:s3cret@here", "s3cret", 60.0, 0.5, 1000, 2000, 3, 4.0, 5
    )
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_PIXELS", "many"),
        ("MAX_PIXELS", "1.5"),
        ("MAX_REQUESTS", "0"),
        ("MAX_BODY_BYTES", "-1"),
        ("CACHE_TTL", "nan"),
        ("CACHE_TTL", "inf"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}='{value}' is not a "):
        Settings.from_environment({name: value})
