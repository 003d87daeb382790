"""Read an image from a request: JSON with base64, or a form with a file. Otherwise, respond 4xx."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from anyio import to_thread
from fastapi import HTTPException, Request
from pydantic import BaseModel, Field, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.types import Message

_LONGEST_NAME = 200
# If the service responds in the middle of an upload, the client sees a reset connection instead.
# So it reads and discards a body that is too large, up to this many times the limit.
_DISCARDED = 4


class Upload(NamedTuple):
    """The content of a request.

    Attributes:
        name: the client's name for the image, used only in the log.
        content: the image file.
    """

    name: str
    content: bytes


class JsonUpload(BaseModel):
    """The JSON form of a request."""

    file_path: str = Field(default="", description="Your name for the image; used only in the log.")
    img_base64: str = Field(min_length=1, description="The image's file in base64.")


async def read_upload(request: Request, max_bytes: int) -> Upload:
    """Return the image in a request.

    Args:
        request: the request, its body not read yet.
        max_bytes: the most bytes its body may have.

    Raises:
        HTTPException: 400 for malformed JSON or a malformed form, 413 for a body that is too
            large, 415 for another content type, 422 for a missing field or invalid base64.
    """
    request = _bounded(request, max_bytes)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        # Decoding megabytes of base64 would block the event loop.
        return await to_thread.run_sync(_from_json, body)
    if kind == "multipart/form-data":
        return await _from_form(request)
    raise HTTPException(
        415, f"send application/json or multipart/form-data, not {kind or 'an unnamed type'!r}"
    )


def _bounded(request: Request, most: int) -> Request:
    """Return a request that counts its body as it arrives, regardless of its headers."""
    size, receive = 0, request.receive

    async def counting() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            while message.get("more_body") and size <= _DISCARDED * most:
                message = await receive()
                size += len(message.get("body", b""))
            raise HTTPException(413, f"the request's body is larger than {most:,} bytes")
        return message

    return Request(request.scope, counting)


def _from_json(body: bytes) -> Upload:
    try:
        given = JsonUpload.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        malformed = problems[0]["type"] == "json_invalid"
        reasons = [
            f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
            for problem in problems
        ]
        raise HTTPException(400 if malformed else 422, "; ".join(reasons)) from None
    try:
        content = base64.b64decode(given.img_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"img_base64: invalid base64: {error}") from None
    return _upload(given.file_path, content, "img_base64")


async def _from_form(request: Request) -> Upload:
    _check_charset(request.headers["content-type"])
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise HTTPException(422, "file: the form has no file with this name")
            return _upload(file.filename or "", await file.read(), "file")
    except ValueError:  # from the parser: the charset can't decode a file name
        raise HTTPException(400, "the form is malformed; is its charset UTF-8?") from None


def _check_charset(content_type: str) -> None:
    """Reject charsets that do not include ASCII, which would garble the form's field names."""
    _, parameters = parse_options_header(content_type)  # like Starlette
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    try:
        decoded = b"file".decode(charset)
    except (LookupError, ValueError):
        decoded = ""
    if decoded != "file":
        raise HTTPException(400, f"the form's charset is {charset!r}; use UTF-8")


def _upload(name: str, content: bytes, field: str) -> Upload:
    if not content:
        raise HTTPException(422, f"{field}: the image is empty")
    # The name goes into the log, where a line break could forge a line.
    printable = "".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME])
    return Upload(printable or "(unnamed)", content)
