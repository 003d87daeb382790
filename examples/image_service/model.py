"""The OCR model: PP-OCR's detector and recogniser, from the rapidocr wheel, on onnxruntime.

Its input is the content of an image; caching and HTTP are elsewhere.
"""

from __future__ import annotations

import hashlib
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rapidocr
from ml_base import MLModel
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from examples.image_service.drawing import draw
from examples.image_service.images import TooMuchTextError, decode

MODEL_FILES = Path(rapidocr.__file__).with_name("models")
# A line takes some 20 ms, so an image about 7 s at most; a few kilobytes can hold 1,000 lines.
MAX_LINES = 300
# Seconds to wait for the images before it, since images are read one at a time.
MAX_WAIT = 10.0
# If any of these changes, answers may change, if only in the last digit.
_PACKAGES = (
    "rapidocr",
    "onnxruntime",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "pyclipper",
    "shapely",
)
_PARAMETERS = {
    "Global.log_level": "critical",  # an image without text is not worth a warning
    "Global.model_root_dir": str(MODEL_FILES),
    # A longer side is scaled down to this; by default, small images are scaled up instead.
    "Det.limit_type": "max",
    "Det.limit_side_len": 960,
    # One thread keeps sums in order, so that an image has one answer, to the last bit. Other
    # workers use the other cores.
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


class ImageInput(BaseModel):
    """The content of an image file, without its name, which does not affect the answer."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    content: bytes = Field(description="A JPEG, PNG, WebP or BMP file.")


class TextLine(BaseModel):
    """A line of text in an image."""

    text: str
    score: float = Field(description="The recogniser's confidence, from 0 to 1.")
    box: list[tuple[float, float]] = Field(
        description="The corners in pixels, x before y, clockwise from the top left."
    )


class ImageText(BaseModel):
    """The text in an image."""

    width: int = Field(description="The width of the image in pixels.")
    height: int = Field(description="The height of the image in pixels.")
    lines: list[TextLine] = Field(description="The lines from top to bottom; may be empty.")


class BusyError(RuntimeError):
    """Too many images are waiting."""


class _Engine(rapidocr.RapidOCR):  # type: ignore[misc]  # rapidocr has no types
    def detect_and_crop(self, img: NDArray[np.uint8], op_record: dict[str, Any]) -> Any:
        # Reading only some of the lines would be a wrong answer.
        lines, found = super().detect_and_crop(img, op_record)
        if len(lines) > MAX_LINES:
            raise TooMuchTextError(f"the image has more than {MAX_LINES} lines of text")
        return lines, found


class OcrModel(MLModel):  # type: ignore[misc]  # ml-base has no types
    """Reads the text in an image.

    Thread-safe: an instance reads one image at a time. The same image gives the same answer in
    every process with the same `revision`.

    Args:
        max_pixels: the most pixels an image may have.
        max_wait: the most seconds that an image may wait for others.

    Attributes:
        revision: a digest of the model's files, its engine and its settings.
    """

    display_name = "Text in Images"
    qualified_name = "ocr_model"
    description = "Finds and reads the lines of text in an image."
    version = "1.0.0"
    input_schema = ImageInput
    output_schema = ImageText

    def __init__(self, max_pixels: int = 20_000_000, max_wait: float = MAX_WAIT) -> None:
        self._max_wait = max_wait
        self._max_pixels = max_pixels
        # The engine stores the state of an image in attributes.
        self._lock = threading.Lock()
        cv2.setNumThreads(1)
        self._engine = _Engine(params=_PARAMETERS)
        self.revision = revision(max_pixels)
        # The engine loads its files when it reads the first text, so let it do that now.
        self.predict(ImageInput(content=draw(["READY"])))

    def predict(self, data: ImageInput) -> ImageText:
        """Return the lines of text in an image.

        Raises:
            BadImageError: the content is not a readable image.
            BusyError: other images took longer than `max_wait`.
        """
        if not self._lock.acquire(timeout=self._max_wait):
            raise BusyError(f"other images took longer than {self._max_wait:g} s")
        try:
            pixels = decode(data.content, self._max_pixels)
            found = self._engine(pixels)
        finally:
            self._lock.release()
        height, width, _ = pixels.shape
        lines = [
            TextLine(
                text=text,
                score=round(float(score), 5),
                box=[(round(x, 1), round(y, 1)) for x, y in box.tolist()],
            )
            for text, score, box in zip(
                found.txts or (),
                found.scores or (),
                found.boxes if found.boxes is not None else (),
                strict=True,
            )
        ]
        return ImageText(width=width, height=height, lines=lines)


def revision(max_pixels: int, folder: Path = MODEL_FILES) -> str:
    """Return a revision that covers the model's files, its engine and its settings."""
    parts = [f"{name}={version(name)}" for name in _PACKAGES]
    parts.append(f"max_pixels={max_pixels}, max_lines={MAX_LINES}")
    parts += [f"{name}={value}" for name, value in _PARAMETERS.items() if "dir" not in name]
    for path in sorted(folder.glob("*.onnx")):
        with path.open("rb") as file:
            parts.append(f"{path.name}={hashlib.file_digest(file, 'sha256').hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
