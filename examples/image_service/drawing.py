"""Draw sample images for the service: printed text on white."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_FONT_SIZE, _MARGIN, _LINE = 28, 20, 45


def draw(lines: Sequence[str], *, width: int = 480, kind: str = "PNG") -> bytes:
    """Return an image file with lines of text; the same lines give the same bytes."""
    image = Image.new("RGB", (width, 2 * _MARGIN + _LINE * max(2, len(lines))), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(_FONT_SIZE)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + _LINE * number), line, fill="black", font=font)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def receipts(count: int, seed: int = 0) -> list[tuple[str, bytes]]:
    """Return drawn receipts as (file name, content), each with its own number and total."""
    dice = random.Random(seed)
    numbers = dice.sample(range(10_000, 99_999), count)
    return [
        (
            f"receipts/{number}.png",
            draw([f"RECEIPT {number}", f"Total {dice.randrange(100, 99_999) / 100:,.2f} EUR"]),
        )
        for number in numbers
    ]
