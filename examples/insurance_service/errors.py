"""Errors in one form, with every status in the OpenAPI.

rest_model_service alone documents a 422 that it never answers, answers 500 if you ask for the
metadata of an unknown model, and fails with a 500 when it explains malformed JSON.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ml_base.utilities import ModelManager
from rest_model_service.exception_handlers import validation_exception_handler
from rest_model_service.routes import get_model_metadata
from rest_model_service.schemas import Error
from starlette.exceptions import HTTPException
from starlette.routing import Route

from model_cache.integrations.http_caching import OUTCOME_HEADERS

_METADATA = "/api/models/{model_qualified_name}/metadata"


def explain_errors(app: FastAPI) -> None:
    """Make every error response an `Error` of rest_model_service, and document its status."""
    app.add_exception_handler(RequestValidationError, explain_bad_request)
    app.add_exception_handler(HTTPException, explain_rejection)
    # Before rest_model_service's own route, which stays in the OpenAPI.
    app.router.routes.insert(0, Route(_METADATA, metadata, include_in_schema=False))
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        document_responses(schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to extend its OpenAPI


async def explain_bad_request(request: Request, error: Exception) -> Response:
    """Respond with 400 to a request that does not match the schema, like rest_model_service.

    Its own handler fails with a 500 if an error's location is a number, as in malformed JSON.
    """
    assert isinstance(error, RequestValidationError)
    errors = [{**one, "loc": [str(part) for part in one["loc"]]} for one in error.errors()]
    response: Response = await validation_exception_handler(request, RequestValidationError(errors))
    return response


async def explain_rejection(_: Request, error: Exception) -> Response:
    """Respond to requests that FastAPI rejects: unreadable bodies, unknown paths and methods."""
    assert isinstance(error, HTTPException)
    return _explained(error.status_code, "RequestError", error.detail, error.headers)


async def metadata(request: Request) -> Response:
    """Respond with a model's metadata, or with 404 if there is no such model."""
    name = request.path_params["model_qualified_name"]
    if all(model["qualified_name"] != name for model in ModelManager().get_models()):
        return _explained(404, "NotFound", f"There is no model {name!r}.")
    response: Response = await get_model_metadata(name)
    return response


def _explained(status: int, kind: str, message: str, headers: Any = None) -> Response:
    error = Error(type=kind, messages=[message])
    return JSONResponse(error.model_dump(), status, headers)


def document_responses(schema: dict[str, Any]) -> None:
    """Replace the statuses in an OpenAPI by those that the service answers."""
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)  # see explain_bad_request
            if path.endswith("/prediction"):
                responses["200"]["headers"] = OUTCOME_HEADERS
                responses["400"]["description"] = "The request does not match the schema."
                responses["500"]["description"] = "The model failed."
            elif path == _METADATA:
                responses["404"] = {**responses["500"], "description": "There is no such model."}
            elif path == "/":
                operation["responses"] = {"307": {"description": "Redirects to /docs."}}
