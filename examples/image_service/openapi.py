"""What the OpenAPI says about `POST /predict`: its body, and every status that it answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from examples.image_service.uploads import JsonUpload
from model_cache.integrations.http_caching import OUTCOME_HEADERS

# An image with the word "OK", so that the request in /docs can be sent as it is.
_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAGQAAABGAQAAAAAS/QzEAAAAnklEQVR42u2SsQ2DMBBFvy0XqTJBJDNGSo/CCBnBXdZg"
    "FLowBhFItJA0jmL5UyDOblOl4bqnu/v/n3SKyLVolHXQP+npRzqhpjFpI5DJ3odAkpw1gMrhI3vJXcwL+2Tke3jIZERC"
    "J73AZbJZBfhWoqJw2u00QAS0ZU7VF6T1TcgAuOaen00U0u0YswP6DmfJQm+n4qK6jsZvTsd//kwr2BtPzCUlXtcAAAAA"
    "SUVORK5CYII="
)

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": JsonUpload.model_json_schema(),
            "example": {"file_path": "ok.png", "img_base64": _IMAGE},
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
    },
}


class Problem(BaseModel):
    """The response to a request that failed."""

    detail: str = Field(description="The reason.")


_ERRORS = {
    400: "The JSON or the form is malformed.",
    408: "The client took too long to send the request.",
    413: "The body or the image is too large.",
    415: "The body is neither JSON nor a form, or the file is not a JPEG, PNG, WebP or BMP.",
    422: "A field is missing or invalid, or the image is damaged or can't be read.",
    500: "The model failed; the log has details for this job.",
    503: "The process is busy; try again.",
}
_RETRY_AFTER = {
    "description": "The seconds to wait.",
    "schema": {"type": "integer", "minimum": 1},
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"headers": OUTCOME_HEADERS},
    **{status: {"model": Problem, "description": when} for status, when in _ERRORS.items()},
}
RESPONSES[503]["headers"] = {"Retry-After": _RETRY_AFTER}
