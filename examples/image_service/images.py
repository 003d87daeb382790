"""Decode uploaded images into pixels, or reject them with the reason.

Uploads are untrusted: only known formats are tried, and the size is read from the header before
any pixels are decoded.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MIN_SIDE, MAX_RATIO = 16, 20


class BadImageError(ValueError):
    """An image that can't be read because of its content; the message says why."""


class UnsupportedFormatError(BadImageError):
    """Not an image in one of `FORMATS`."""


class TooManyPixelsError(BadImageError):
    """An image that would take too much memory when decompressed."""


class TooMuchTextError(BadImageError):
    """An image with more lines of text than the model reads."""


class UnreadableImageError(BadImageError):
    """An image that is damaged, or too small or too narrow to hold text."""


def decode(content: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Return the pixels of an image, upright and on white, as (height, width, blue-green-red).

    Args:
        content: a file in one of `FORMATS`; of an animation, only the first frame is used.
        max_pixels: the most pixels it may have.

    Raises:
        BadImageError: it can't be read; the message says why.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnsupportedFormatError(f"expected an image in {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"the image has more than {max_pixels:,} pixels") from error
    except Exception as error:  # Pillow's parsers raise many kinds of exceptions
        raise UnreadableImageError("the image's header is damaged") from error
    with image:
        _check_size(*image.size, max_pixels)
        try:
            upright = ImageOps.exif_transpose(image)
            return _on_white(upright)
        except Exception as error:
            raise UnreadableImageError("the image is damaged or incomplete") from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    size = f"the image is {width} x {height} pixels"
    if width * height > max_pixels:
        raise TooManyPixelsError(f"{size}; the limit is {max_pixels:,} in all")
    short, long = sorted((width, height))
    # The model scales by the sides, so it would make a narrow image huge.
    if short < MIN_SIDE or long > MAX_RATIO * short:
        raise UnreadableImageError(
            f"{size}; expected at least {MIN_SIDE} on each side, and a ratio of the sides of "
            f"at most {MAX_RATIO}"
        )


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grayscale, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    pixels: NDArray[Any] = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(pixels[:, :, ::-1])
