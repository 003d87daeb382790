"""Untrusted bytes become upright pixels on white or are refused; nothing else happens."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed here")


def file(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def test_transparency_becomes_white() -> None:
    from examples.image_service.images import decode

    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[5, 7] = (10, 20, 30, 255)
    decoded = decode(file(pixels), 1000)
    assert decoded.shape == (20, 30, 3)
    assert decoded[5, 7].tolist() == [30, 20, 10]  # blue, green, red
    assert decoded[0, 0].tolist() == [255, 255, 255]


def test_a_photo_is_turned_upright() -> None:
    from PIL import Image

    from examples.image_service.images import decode

    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    content = file(np.zeros((20, 30, 3), np.uint8), "JPEG", exif=exif.tobytes())
    assert decode(content, 1000).shape == (30, 20, 3)


def test_sixteen_bit_images_keep_their_shades() -> None:
    from examples.image_service.images import decode

    pixels = np.full((20, 30), 0x8000, np.uint16)
    assert decode(file(pixels), 1000)[0, 0].tolist() == [0x80] * 3


def test_no_damage_raises_anything_else() -> None:
    from examples.image_service.images import BadImageError, decode

    shades = np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8)
    dice = random.Random(0)
    files = [file(shades, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")]
    refused = 0
    for _ in range(500):
        content = bytearray(dice.choice(files))
        for _ in range(dice.randint(1, 6)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        try:
            assert decode(bytes(content[: dice.randrange(1, 2000)]), 10_000).ndim == 3
        except BadImageError:
            refused += 1
    assert 0 < refused < 500
