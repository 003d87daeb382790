"""Check that the options match a model's schemas.

Runs once per `set_model`, never per prediction.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.binding.places import allows_extras, annotations_at, nested, paths_of, tree_of
from model_cache.errors import ConfigurationError
from model_cache.keys.canonical import Selection
from model_cache.keys.rounding import Rounder
from model_cache.keys.schemas import field_annotations, holds_numbers, structures
from model_cache.options.config import Config


def schema(name: str, model: MLModel) -> type[BaseModel]:
    """Return the model's `input_schema` or `output_schema`."""
    found = getattr(model, name)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return found
    bases = found.__mro__ if isinstance(found, type) else ()
    if any(base.__module__.startswith("pydantic.v1.") for base in bases):
        problem = (
            f"its {name} {found.__qualname__} is a pydantic.v1 model; "
            "derive it from pydantic.BaseModel"
        )
    elif isinstance(found, BaseModel):
        problem = f"its {name} is an instance of {type(found).__qualname__}; use the class itself"
    else:
        problem = f"its {name} is {found!r}, not a pydantic model"
    raise ConfigurationError("model", problem)


def selection(input_schema: type[BaseModel], config: Config) -> Selection | None:
    """Return which fields of the input are part of the key; None for all."""
    keep = config.hashing_fields is not None
    option = "hashing_fields" if keep else "ignored_fields"
    paths = config.hashing_fields if keep else config.ignored_fields
    if paths is None:
        return None
    for path in paths:
        annotations_at(option, input_schema, path)
    found = Selection(tree_of(input_schema, paths), keep)
    if _omits_all(found, input_schema):
        problem = "excludes every field, so all inputs would share one entry"
        raise ConfigurationError(option, problem)
    return found


def _omits_all(chosen: Selection, input_schema: type[BaseModel]) -> bool:
    if chosen.keep or allows_extras(input_schema):
        return False
    return all(map(chosen.omits, input_schema.model_fields))


def left_out(input_schema: type[BaseModel], chosen: Selection | None) -> tuple[str, ...]:
    """Return the paths of the fields that are not part of the key, without those inside them."""
    if chosen is None:
        return ()
    if not chosen.keep:
        return tuple(paths_of(chosen.tree))
    found: list[str] = []
    for path in _omitted(input_schema, chosen):
        if not any(path.startswith(f"{above}.") for above in found):
            found.append(path)
    return tuple(found)


def rounder(input_schema: type[BaseModel], config: Config) -> Rounder | None:
    """Return the rounder of inputs; None if they are not rounded."""
    if config.places is None or isinstance(config.places, int):
        return None if config.places is None else Rounder(config.places)
    option = "reduced_precision_fields"
    for path in sorted(config.places):
        found = annotations_at(option, input_schema, path, declared=True)
        if not any(map(holds_numbers, found)):
            raise ConfigurationError(option, f"{path!r} contains no numbers to round")
        if any(path.startswith(f"{above}.") for above in config.places):
            raise ConfigurationError(option, f"{path!r} is inside another field of the list")
    return Rounder(nested(config.places))


def warn_of_echoed_fields(
    input_schema: type[BaseModel],
    output_schema: type[BaseModel],
    chosen: Selection | None,
    stacklevel: int,
) -> None:
    """Warn if a hit would return an input field of another request."""
    if chosen is None:
        return
    # The schema does not declare extra fields and keys of dicts, so only the option names them.
    undeclared = [] if chosen.keep else paths_of(chosen.tree)
    omitted = ["." + path for path in (*_omitted(input_schema, chosen), *undeclared)]
    warned: list[str] = []
    for path in _paths(output_schema):
        if any(path.startswith(above + ".") for above in warned):
            continue
        for source in omitted:
            if ("." + path).endswith(source) or source.endswith("." + path):
                warned.append(path)
                _warn_of_echo(path, source[1:], stacklevel + 1)
                break


def _warn_of_echo(path: str, source: str, stacklevel: int) -> None:
    warnings.warn(
        f"the output field {path!r} has the same name as the input field {source!r}, which is not "
        "part of the key: a hit may return the value of another request. If a decorator passes it "
        "through (a prediction id, for example), put that decorator outside the cache: pass the "
        "model to the cache's set_model, and the cache to the other decorator's.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


def _omitted(schema: type, chosen: Selection) -> Iterator[str]:
    """Yield the paths of the fields that are not part of the key, with those inside them."""
    for name, annotation in field_annotations(schema).items():
        if chosen.omits(name):
            yield name
            for cls in structures(annotation):
                yield from (f"{name}.{path}" for path in _paths(cls))
        elif (below := chosen.inside(name)) is not None:
            for cls in structures(annotation):
                yield from (f"{name}.{path}" for path in _omitted(cls, below))


def _paths(schema: type, above: tuple[type, ...] = ()) -> Iterator[str]:
    """Yield the dotted paths of all fields, each before those inside it."""
    for name, annotation in field_annotations(schema).items():
        yield name
        for cls in structures(annotation):
            if cls not in (*above, schema):  # a schema may contain itself
                yield from (f"{name}.{path}" for path in _paths(cls, (*above, schema)))
