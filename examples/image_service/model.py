"""The OCR model: PP-OCR's detector and recogniser, from the wheel of rapidocr, on onnxruntime.

It knows nothing of a cache, of HTTP or of file names: its input is an image's content.
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
# A line takes some 20 ms, so an image at most about 7 s; a few kilobytes can hold a thousand lines.
MAX_LINES = 300
# For the images before it: each is read alone.
MAX_WAIT = 10.0
# Whatever of these is another, answers may be others, if only in the last digit.
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
    "Global.log_level": "critical",  # that an image holds no text is no warning of a service
    "Global.model_root_dir": str(MODEL_FILES),
    # A longer side is scaled down to this; by default, small images are scaled up instead.
    "Det.limit_type": "max",
    "Det.limit_side_len": 960,
    # One thread: sums keep their order, so that an image has one answer, to the last bit. Other
    # cores are for other workers.
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


class ImageInput(BaseModel):
    """An image, as its file's content; not its name, which says nothing about it."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    content: bytes = Field(description="A JPEG, PNG, WebP or BMP file.")


class TextLine(BaseModel):
    """A line of text that was found."""

    text: str
    score: float = Field(description="How sure the recogniser is, from 0 to 1.")
    box: list[tuple[float, float]] = Field(
        description="Its corners in pixels, x before y, clockwise from the top left."
    )


class ImageText(BaseModel):
    """What an image says."""

    width: int = Field(description="Of the image, in pixels.")
    height: int = Field(description="Of the image, in pixels.")
    lines: list[TextLine] = Field(description="From top to bottom; none, if it holds no text.")


class BusyError(RuntimeError):
    """Too many images are to be read before this one."""


class _Engine(rapidocr.RapidOCR):  # type: ignore[misc]  # rapidocr has no types
    def detect_and_crop(self, img: NDArray[np.uint8], op_record: dict[str, Any]) -> Any:
        # To read only some of the lines would be another answer than the image's.
        lines, found = super().detect_and_crop(img, op_record)
        if len(lines) > MAX_LINES:
            raise TooMuchTextError(f"the image holds more than {MAX_LINES} lines of text")
        return lines, found


class OcrModel(MLModel):  # type: ignore[misc]  # ml-base has no types
    """Reads the text in an image.

    One instance may be shared by threads: it reads one image at a time. The same image gives the
    same answer in every process that has the same `revision`.

    Args:
        max_pixels: how many an image may have.
        max_wait: seconds for which an image may wait for others.

    Attributes:
        revision: of this version: a digest of the model's files, its engine and its settings.
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
        # The engine keeps what it knows of an image on itself.
        self._lock = threading.Lock()
        cv2.setNumThreads(1)
        self._engine = _Engine(params=_PARAMETERS)
        self.revision = revision(max_pixels)
        # The engine loads its files with the first text that it reads: better now than later.
        self.predict(ImageInput(content=draw(["READY"])))

    def predict(self, data: ImageInput) -> ImageText:
        """Return the lines of text in an image.

        Raises:
            BadImageError: the content is no image that can be read.
            BusyError: others took longer than `max_wait`.
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
    """Return what tells apart models of one version: their files, their engine, how it is set."""
    parts = [f"{name}={version(name)}" for name in _PACKAGES]
    parts.append(f"max_pixels={max_pixels}, max_lines={MAX_LINES}")
    parts += [f"{name}={value}" for name, value in _PARAMETERS.items() if "dir" not in name]
    for path in sorted(folder.glob("*.onnx")):
        with path.open("rb") as file:
            parts.append(f"{path.name}={hashlib.file_digest(file, 'sha256').hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
