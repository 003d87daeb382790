"""Requests inside the records of others: KServe's logger and SageMaker's data capture.

Both write JSON lines. A line of KServe's is a CloudEvent whose `data` is the request in the first
(`instances`) or second (`inputs`) version of its protocol; a line of SageMaker's holds the body of
the request as text.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from model_cache.errors import ModelCacheError


class EnvelopeError(ModelCacheError):
    """A record can't be read; the message says why."""


class Inside(NamedTuple):
    """What is inside a record.

    Attributes:
        requests: the requests by field.
        time: the time of the record, as it was written; None if there is none.
    """

    requests: Sequence[dict[str, Any]]
    time: Any


def opened(line: Mapping[str, Any], fields: Sequence[str]) -> Inside | None:
    """Return what is inside a record; None if it is a request by itself.

    Args:
        line: a line of the log.
        fields: the names of the model's fields, in order, for rows without names.

    Raises:
        EnvelopeError: it is a record that can't be read.
    """
    if "captureData" in line and "captureData" not in fields:
        return _sagemaker(line, fields)
    if "specversion" in line and "specversion" not in fields:
        return _cloud_event(line, fields)
    for name in ("instances", "inputs"):
        if isinstance(line.get(name), list) and name not in fields:
            return Inside(list(_requests(line, fields)), None)
    return None


def _cloud_event(line: Mapping[str, Any], fields: Sequence[str]) -> Inside:
    time = line.get("time")
    if str(line.get("type", "")).endswith("response"):
        return Inside([], time)
    data = line.get("data")
    if data is None and isinstance(line.get("data_base64"), str):
        data = _decoded(line["data_base64"])
    if isinstance(data, str):
        data = _json(data)
    return Inside(list(_requests(data, fields)), time)


def _sagemaker(line: Mapping[str, Any], fields: Sequence[str]) -> Inside:
    metadata = line.get("eventMetadata")
    time = metadata.get("inferenceTime") if isinstance(metadata, Mapping) else None
    captured = line["captureData"]
    given = captured.get("endpointInput") if isinstance(captured, Mapping) else None
    if given is None:  # only the output was captured
        return Inside([], time)
    if not isinstance(given, Mapping) or not isinstance(given.get("data"), str):
        raise EnvelopeError("captureData without the data of endpointInput")
    text = _decoded(given["data"]) if given.get("encoding") == "BASE64" else given["data"]
    if "csv" in str(given.get("observedContentType")) or given.get("encoding") == "CSV":
        return Inside([_without_empty(_named(row, fields)) for row in _rows(text) if row], time)
    return Inside([each for body in _bodies(text) for each in _requests(body, fields)], time)


def _rows(text: str) -> list[list[str]]:
    try:
        return list(csv.reader(text.splitlines()))
    except csv.Error as error:
        raise EnvelopeError(f"the body is not valid CSV: {error}") from error


def _bodies(text: str) -> Iterator[Any]:
    """Yield the JSON values of a body: one, or one per line."""
    try:
        yield _json(text)
    except EnvelopeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        yield from map(_json, lines)


def _requests(body: Any, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the requests of a body."""
    if isinstance(body, list):
        for row in body:
            yield named_row(row, fields)
    elif not isinstance(body, Mapping):
        raise EnvelopeError("the body is not a JSON object")
    elif isinstance(body.get("instances"), list) and "instances" not in fields:
        yield from _requests(body["instances"], fields)
    elif isinstance(body.get("inputs"), list) and "inputs" not in fields:
        yield from _tensors(body["inputs"], fields)
    else:
        yield dict(body)


def named_row(row: Any, fields: Sequence[str]) -> dict[str, Any]:
    """Return a row by field: an object, a list with a value for each field, or the only value.

    Raises:
        EnvelopeError: it is none of these.
    """
    if isinstance(row, Mapping):
        return dict(row)
    if isinstance(row, list):
        return _named(row, fields)
    if len(fields) == 1:
        return {fields[0]: row}
    raise EnvelopeError("an instance is neither an object nor a list")


def _named(row: Sequence[Any], fields: Sequence[str]) -> dict[str, Any]:
    if len(row) != len(fields):
        raise EnvelopeError(f"expected {len(fields)} values, one for each field, got {len(row)}")
    return dict(zip(fields, row, strict=True))


def _without_empty(cells: dict[str, Any]) -> dict[str, Any]:
    # An empty cell is an absent field: CSV has no other way to say so.
    return {name: cell for name, cell in cells.items() if cell != ""}


def _tensors(tensors: Sequence[Any], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the tensors of the second version: one per field, or one matrix."""
    if not all(map(_is_tensor, tensors)):
        for row in tensors:
            yield named_row(row, fields)
        return
    if len(tensors) == 1 and len(fields) > 1:
        data = tensors[0]["data"]
        flat = [cell for row in data for cell in (row if isinstance(row, list) else [row])]
        if len(flat) % len(fields):
            raise EnvelopeError(f"expected {len(fields)} columns, one for each field")
        for start in range(0, len(flat), len(fields)):
            yield _named(flat[start : start + len(fields)], fields)
        return
    columns = {str(each.get("name")): each["data"] for each in tensors}
    if len({len(data) for data in columns.values()}) > 1:
        raise EnvelopeError("the tensors have different lengths")
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("data"), list)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError as error:
        raise EnvelopeError("invalid base64") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("the body is not valid JSON") from error
