"""Bytes that claim to be an image, made into pixels, or refused with the reason.

The bytes come from strangers: only known formats are tried, and how large an image is, is read
from its header before a pixel of it is made.
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
    """An image that can't be read, by no fault of the service; the message says why."""


class UnsupportedFormatError(BadImageError):
    """Not an image in one of `FORMATS`."""


class TooManyPixelsError(BadImageError):
    """An image that would take too much memory once it is decompressed."""


class TooMuchTextError(BadImageError):
    """An image with more lines of text than are read."""


class UnreadableImageError(BadImageError):
    """An image that is damaged, or too small or too narrow to hold text."""


def decode(content: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Return the pixels of an image, upright and on white, as (height, width, blue-green-red).

    Args:
        content: a file in one of `FORMATS`; of an animation, the first picture counts.
        max_pixels: how many it may have.

    Raises:
        BadImageError: it can't be read, and why.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnsupportedFormatError(f"this is no image in {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"the image has more than {max_pixels:,} pixels") from error
    except Exception as error:  # Pillow's parsers raise many kinds of it
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
        raise TooManyPixelsError(f"{size}; at most {max_pixels:,} in all are read")
    short, long = sorted((width, height))
    # The model scales by the sides: of a thread of pixels it would make a huge sheet.
    if short < MIN_SIDE or long > MAX_RATIO * short:
        raise UnreadableImageError(
            f"{size}; it takes {MIN_SIDE} or more on each side, and no more than "
            f"{MAX_RATIO} times as many on the one as on the other"
        )


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits of gray, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    pixels: NDArray[Any] = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(pixels[:, :, ::-1])
