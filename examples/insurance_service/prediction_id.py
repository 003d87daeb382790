"""A decorator that gives each prediction its own id; put it outside the cache.

The id belongs to the request. Inside the cache it would be stored with the first answer, and each
later request would get the first one's id.
"""

from __future__ import annotations

from typing import Annotated, Any, Self
from uuid import uuid4

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel
from pydantic import BaseModel, Field, create_model

FIELD = "prediction_id"

_Given = Annotated[
    str | None,
    Field(
        title="Prediction ID",
        description="An id for this prediction; by default, a new one is created.",
        min_length=1,
        max_length=100,
    ),
]
_Made = Annotated[str, Field(title="Prediction ID", description="Identifies this prediction.")]


class PredictionIDDecorator(MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """Adds `prediction_id` to the output: the one from the input, or a new UUID.

    The inner model never sees it: for the model, and for a cache around it, requests that differ
    only in their ids are the same.
    """

    def set_model(self, model: MLModel) -> Self:
        """Wrap a model.

        Raises:
            ValueError: the model's schemas already have a `prediction_id`.
        """
        super().set_model(model)
        for schema in (model.input_schema, model.output_schema):
            if FIELD in schema.model_fields:
                raise ValueError(f"{schema.__name__} already has a field {FIELD!r}")
        # Through __dict__, since ml-base forwards attribute writes to the model.
        self.__dict__["_input_schema"] = _extended(model.input_schema, (_Given, None))
        self.__dict__["_output_schema"] = _extended(model.output_schema, (_Made, ...))
        return self

    @property
    def input_schema(self) -> type[BaseModel]:
        """The model's input schema with an optional `prediction_id`."""
        schema: type[BaseModel] = self.__dict__["_input_schema"]
        return schema

    @property
    def output_schema(self) -> type[BaseModel]:
        """The model's output schema with a `prediction_id`."""
        schema: type[BaseModel] = self.__dict__["_output_schema"]
        return schema

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the model's prediction with the id."""
        model: MLModel = self.__dict__["_model"]
        inner = model.input_schema.model_validate(
            {name: getattr(data, name) for name in model.input_schema.model_fields}, by_name=True
        )
        prediction = model.predict(inner)
        values = {name: getattr(prediction, name) for name in type(prediction).model_fields}
        values[FIELD] = getattr(data, FIELD) or str(uuid4())
        return self.output_schema.model_validate(values, by_name=True)


def _extended(schema: type[BaseModel], field: Any) -> type[BaseModel]:
    extended: type[BaseModel] = create_model(
        f"{schema.__name__}WithID", __base__=schema, __module__=schema.__module__, **{FIELD: field}
    )
    return extended
