"""The image service with models that a test controls, for uvicorn."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fastapi import FastAPI
from ml_base import MLModel

from examples.image_service import app
from examples.image_service.model import BusyError, ImageInput, ImageText
from examples.image_service.settings import Settings


class SteeredModel(MLModel):  # type: ignore[misc]  # ml-base has no types
    """Waits while a file named "wait" is there, and fails while one named "fail" or "busy" is."""

    display_name, qualified_name, version = "Steered", "steered_model", "1.0.0"
    description, input_schema, output_schema = "Does as it is told.", ImageInput, ImageText

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def predict(self, data: ImageInput) -> ImageText:
        (self._folder / "began").touch()
        while (self._folder / "wait").exists():
            time.sleep(0.01)
        if (self._folder / "busy").exists():
            raise BusyError("other images took longer than 1 s")
        if (self._folder / "fail").exists():
            raise RuntimeError("the secret reason")
        return ImageText(width=len(data.content), height=1, lines=[])


def create_app() -> FastAPI:
    def steered(_: Settings) -> MLModel:
        return SteeredModel(Path(os.environ["STEERING_FOLDER"]))

    return app.create_app(make_model=steered)
