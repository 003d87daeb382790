"""Canonical bytes for the parts of a schema: annotations, functions, defaults, metadata.

Unlike `canonical.identities`, which identifies a class by name, this module looks inside: through
aliases and `NewType`, into the members of enums and the contents of closures and partials. It runs
once per `set_model`. The bytes do not depend on the process or the version of pydantic; they
depend on the version of Python only for lambdas and nested functions, whose code counts.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.identities import class_identity, counted, text

# These affect dumping or documentation, never validation.
_NOT_FOR_VALIDATION = ("pydantic.functional_serializers", "pydantic.json_schema")
_PYDANTIC = ("pydantic", "pydantic_core", "pydantic_settings", "annotated_types")


# The most values that a function may carry, for example in its closure.
_MAX_VALUES = 10_000


class OpaqueError(Exception):
    """A function or object that can't be identified; the message says why."""


@dataclasses.dataclass(frozen=True)
class _Inside:
    """The functions and objects around the current one, outermost first."""

    objects: tuple[Any, ...] = ()
    count: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def place(self, value: Any) -> bytes | None:
        """Return the bytes for a value that contains itself."""
        places = (place for place, each in enumerate(self.objects) if each is value)
        return next((b"^%x;" % place for place in places), None)

    def enter(self, value: Any) -> _Inside:
        if next(self.count) > _MAX_VALUES:
            raise OpaqueError(f"it contains more than {_MAX_VALUES:,} values")
        return _Inside((*self.objects, value), self.count)


def annotation_facts(annotation: Any, aliases: tuple[Any, ...] = ()) -> bytes:
    """Return canonical bytes for an annotation, with its aliases resolved.

    Args:
        annotation: the annotation.
        aliases: the enclosing type aliases, which may be recursive.
    """

    def inside(part: Any) -> bytes:
        return annotation_facts(part, aliases)

    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case None:
            return _plain_facts(annotation, inside, aliases)
        case typing.Annotated:
            metadata = metadata_facts(arguments[1:])
            return b"@" + inside(arguments[0]) + metadata if metadata else inside(arguments[0])
        case typing.Literal:
            return b"q" + counted(b"=" + object_facts(value) for value in arguments)
        case typing.Union | types.UnionType:
            return b"u" + counted(map(inside, arguments))
        case origin:
            return b"g" + inside(origin) + counted(map(inside, arguments))


def _plain_facts(
    annotation: Any, inside: Callable[[Any], bytes], aliases: tuple[Any, ...]
) -> bytes:
    if hasattr(annotation, "__value__"):  # `type X = ...`
        if annotation in aliases:
            return b"^%x;" % aliases.index(annotation)
        return b"y" + annotation_facts(annotation.__value__, (*aliases, annotation))
    if isinstance(annotation, typing.NewType):
        return b"w" + inside(annotation.__supertype__)
    if isinstance(annotation, typing.TypeVar):
        return b"v" + counted(map(inside, _stands_for(annotation)))
    if annotation is None or isinstance(annotation, type):
        return class_facts(annotation or types.NoneType)
    if isinstance(annotation, (list, tuple)):  # the parameters of a Callable
        return b"l" + counted(map(inside, annotation))
    if isinstance(annotation, str):  # an unresolved forward reference
        return b"r" + text(annotation)
    # An ellipsis, a forward reference, a special form: by name.
    name = getattr(annotation, "__forward_arg__", None) or getattr(annotation, "__name__", "")
    return b"a" + text(str(name))


def _stands_for(variable: typing.TypeVar) -> list[Any]:
    """Return the types that pydantic may use for an unparametrized type variable."""
    default = getattr(variable, "__default__", None)
    if type(default).__name__ == "NoDefaultType":
        default = None
    return [default, variable.__bound__, *variable.__constraints__]


def class_facts(cls: type) -> bytes:
    """Return canonical bytes for a class: its identity, and the members of an enum."""
    if not issubclass(cls, Enum):
        return _identity(cls)
    members = sorted(text(member.name) + object_facts(member.value) for member in cls)
    missing: Any = cls._missing_
    parts = [_identity(cls), counted(members)]
    if _root(missing) != "enum":
        parts.append(function_facts(missing.__func__))
    return b"e" + counted(parts)


def _identity(cls: type) -> bytes:
    if _root(cls) in sys.stdlib_module_names:  # its private module differs between versions
        return b"c" + text(cls.__module__.partition("._")[0]) + text(cls.__qualname__)
    return class_identity(cls)


def field_facts(field: FieldInfo) -> bytes:
    """Return canonical bytes for a field: its type, constraints, validators and default."""
    return b"F" + counted(
        [
            annotation_facts(field.annotation),
            metadata_facts(field.metadata),
            default_facts(field.default),
            b"" if field.default_factory is None else function_facts(field.default_factory),
            _optional(field.discriminator),
            _optional(field.validation_alias),
            _optional(field.validate_default),
        ]
    )


def _optional(value: Any) -> bytes:
    return b"" if value is None else object_facts(value)


def default_facts(value: Any) -> bytes:
    """Return canonical bytes for a default.

    A default without a canonical form is identified by its class, which is safe: a prediction that
    contains it is never stored.
    """
    try:
        return object_facts(value)
    except OpaqueError:
        return b"?" + class_facts(type(value))


def metadata_facts(metadata: Iterable[Any]) -> bytes:
    """Return canonical bytes for the metadata of an annotation; b"" if none of it matters."""
    parts = [facts for item in metadata if (facts := _one_metadata(item))]
    return counted(parts) if parts else b""


def _one_metadata(item: Any) -> bytes:
    if isinstance(item, FieldInfo):
        return field_facts(item)
    if isinstance(item, str) or type(item).__module__ in _NOT_FOR_VALIDATION:
        return b""
    if type(item).__module__ == "pydantic.functional_validators" and hasattr(item, "func"):
        return class_facts(type(item)) + function_facts(item.func)  # the rest is documentation
    try:
        return object_facts(item)
    except OpaqueError:
        if hasattr(item, "__get_pydantic_core_schema__") or _root(type(item)) in _PYDANTIC:
            raise
        return class_facts(type(item))  # pydantic ignores it


def function_facts(function: Any, inside: _Inside | None = None) -> bytes:
    """Return canonical bytes for a function: its name and the values it carries.

    A top-level function is identified by its name; if its body changes, the user sets a new
    `revision`. A lambda or nested function is identified by its code as well.

    Args:
        function: the function, class, method, partial or other callable.
        inside: the enclosing functions and objects.

    Raises:
        OpaqueError: it carries a value that can't be identified.
    """
    inside = inside or _Inside()
    if isinstance(function, type):
        return class_facts(function)
    if isinstance(function, functools.partial):
        parts = (function.func, function.args, dict(sorted(function.keywords.items())))
        return b"P" + counted(object_facts(part, inside) for part in parts)
    if isinstance(function, types.MethodType):
        owner = object_facts(function.__self__, inside)
        return b"B" + owner + function_facts(function.__func__, inside)
    if isinstance(function, types.FunctionType):
        return _python_function_facts(function, inside)
    wrapped = getattr(function, "__wrapped__", None)
    if callable(wrapped):  # functools.cache
        return b"W" + class_facts(type(function)) + function_facts(wrapped, inside)
    if not hasattr(function, "__qualname__"):  # an object with __call__
        return object_facts(function, inside)
    bound_to = getattr(function, "__self__", None)
    if bound_to is None or isinstance(bound_to, types.ModuleType):
        return b"f" + text(_name(function))
    return b"B" + object_facts(bound_to, inside) + text(_name(function))


def _python_function_facts(function: types.FunctionType, inside: _Inside) -> bytes:
    if (place := inside.place(function)) is not None:
        return place
    inside = inside.enter(function)
    parts = [text(_name(function))]
    if "<" in function.__qualname__:  # <lambda>, <locals>
        parts.append(_code_facts(function.__code__))
    carried = (
        function.__defaults__,
        function.__kwdefaults__,
        [_content(cell) for cell in function.__closure__ or ()],
    )
    parts += [object_facts(each, inside) for each in carried if each]
    return b"f" + counted(parts)


def carried_facts(function: Any) -> bytes:
    """Return canonical bytes for a function's code and for the values in its closure.

    Raises:
        OpaqueError: its closure has a value that can't be identified.
    """
    inside = _Inside().enter(function)
    code = getattr(function, "__code__", None)
    closure = getattr(function, "__closure__", None) or ()
    carried = [object_facts(_content(cell), inside) for cell in closure]
    return counted([b"" if code is None else _code_facts(code), *carried])


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _code_facts(code: types.CodeType) -> bytes:
    """Return canonical bytes for code, independent of its location but not of Python's version."""
    constants = [
        _code_facts(each) if isinstance(each, types.CodeType) else b"=" + object_facts(each)
        for each in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return b"C" + counted(
        [INPUTS.encode((code.co_code, code.co_exceptiontable, numbers, names)), counted(constants)]
    )


def object_facts(value: Any, inside: _Inside | None = None) -> bytes:
    """Return canonical bytes for a value in a schema.

    Args:
        value: a constraint, a validator, or a value from a closure.
        inside: the enclosing functions and objects.

    Raises:
        OpaqueError: the value can't be identified.
    """
    inside = inside or _Inside()
    if isinstance(value, Enum):
        return b"E" + class_identity(type(value)) + text(value.name) + object_facts(value.value)
    if isinstance(value, FieldInfo):
        return field_facts(value)
    if value is PydanticUndefined:
        return b"!"
    if _is_constraint(value):
        return _constraint_facts(value, inside)
    try:
        return INPUTS.encode(value)
    except NotCacheableError:
        pass
    if isinstance(value, types.ModuleType):
        return b"m" + text(value.__name__)
    if callable(value) and (isinstance(value, functools.partial) or hasattr(value, "__qualname__")):
        return function_facts(value, inside)
    if typing.get_origin(value) is not None or hasattr(value, "__value__"):
        return annotation_facts(value)
    return inside.place(value) or _parts(value, inside.enter(value))


def _parts(value: Any, inside: _Inside) -> bytes:
    if type(value) in (list, tuple):
        return b"l" + counted(object_facts(item, inside) for item in value)
    if type(value) is dict:
        return b"d" + counted(object_facts(item, inside) for item in value.items())
    return b"O" + class_facts(type(value)) + counted(_state(value, inside))


def _is_constraint(value: Any) -> bool:
    """Return whether it is pydantic metadata, such as `Gt(0)`."""
    cls = type(value)
    if isinstance(value, type) or _root(cls) not in _PYDANTIC:
        return False
    return dataclasses.is_dataclass(cls) or cls.__module__.startswith("pydantic._internal")


def _constraint_facts(value: Any, inside: _Inside) -> bytes:
    """Return canonical bytes for pydantic metadata: the constraint, not its class.

    Other versions of pydantic use other classes, with more attributes that are None.
    """
    inside = inside.enter(value)
    names = [field.name for field in dataclasses.fields(value)] if _has_fields(value) else []
    held = {name: getattr(value, name) for name in {*names, *getattr(value, "__dict__", {})}}
    said = {name: each for name, each in sorted(held.items()) if each is not None}
    if not said:
        return class_facts(type(value))
    return b"O" + counted(text(name) + object_facts(each, inside) for name, each in said.items())


def _has_fields(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _state(value: Any, inside: _Inside) -> Iterator[bytes]:
    """Yield an object's state: the fields of a dataclass, else what pickle would save."""
    if _has_fields(value):
        for name in sorted(field.name for field in dataclasses.fields(value)):
            yield text(name) + object_facts(getattr(value, name, None), inside)
        return
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        reraise_interruption(error)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise OpaqueError(f"it contains a value of type {kind}") from error
    if type(value) is object or isinstance(reduced, str):
        raise OpaqueError(f"it contains a value of type {type(value).__qualname__}")
    function, arguments, state, *items = (*reduced, None, None, None)[:5]
    yield function_facts(function, inside)
    yield object_facts(arguments, inside)
    yield object_facts(dict(sorted(state.items())) if type(state) is dict else state, inside)
    for each in items:
        yield object_facts(None if each is None else list(each), inside)


def is_pydantics(function: Any) -> bool:
    """Return whether a function is pydantic's, or one of the standard library that it uses.

    A function written in Python counts as the user's, since their module may share a name with one
    of the standard library.
    """
    while isinstance(function, functools.partial):
        function = function.func
    root = _root(function)
    is_python = isinstance(function, (types.FunctionType, types.MethodType))
    return root in _PYDANTIC or (root in sys.stdlib_module_names and not is_python)


def carried_functions(function: Any) -> Iterator[Callable[..., Any]]:
    """Yield the user's functions that one of pydantic's functions calls."""
    if isinstance(function, functools.partial):
        carried = [function.func, *function.args, *function.keywords.values()]
    else:
        carried = list(map(_content, getattr(function, "__closure__", None) or ()))
    for each in carried:
        if isinstance(each, (types.FunctionType, types.MethodType, functools.partial)):
            if is_pydantics(each):
                yield from carried_functions(each)
            else:
                yield each


def _root(named: Any) -> str:
    return (getattr(named, "__module__", None) or "builtins").partition(".")[0]


def _name(function: Any) -> str:
    return f"{getattr(function, '__module__', None)}:{function.__qualname__}"
