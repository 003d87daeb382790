"""The parts of Python's objects: containers, functions, classes, and whatever can be pickled.

An object is what pickle would save of it, since a model that is loaded from a file is no more.
"""

from __future__ import annotations

import copyreg
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from model_cache.interruptions import reraise_interruption
from model_cache.wrappers.fitted.arrays import array_parts
from model_cache.wrappers.fitted.libraries import library_parts, without_derived
from model_cache.wrappers.fitted.parts import Child, Named, Parts, Unordered, UnstableError, named
from model_cache.wrappers.fitted.parts import attributes as attribute_parts

_MOST_DECORATORS = 100

# Where to look for functions that do not know their module.
_HOMES = ("numpy", "scipy.special")


def parts_of(value: Any) -> Parts:
    """Return the parts of a value that is not a leaf.

    Raises:
        UnstableError: it has no stable fingerprint; the iterator may raise it, too.
    """
    described = _DESCRIBED.get(type(value))
    if described is not None:
        return described(value)
    if isinstance(value, type):
        return iter((b"class:", named(value)))
    if isinstance(value, (set, frozenset)):
        return _set(value)
    parts = library_parts(value)
    if parts is None:
        parts = array_parts(value)
    return _reduced(value) if parts is None else parts


def _sequence(value: list[Any] | tuple[Any, ...]) -> Parts:
    yield b"list:" if type(value) is list else b"tuple:"
    for place, item in enumerate(value):
        yield Child(item, place, is_item=True)
    yield b")"


def _dict(value: Mapping[Any, Any]) -> Parts:
    # In its order, which an estimator may follow: a dict of steps, of columns, of classes. A file
    # keeps the order, so only a model that is trained anew may have another one.
    yield b"dict:"
    yield from _pairs(list(value.items()))


def _pairs(pairs: Iterable[tuple[Any, Any]]) -> Parts:
    for key, item in pairs:
        yield Child(key)
        yield Child(item, key, is_item=True)
    yield b")"


def _set(value: set[Any] | frozenset[Any]) -> Parts:
    # pickle saves the items in the order of their hashes, which differs between processes.
    yield b"set:"
    yield named(type(value))
    yield Unordered(set.union(set(), value))
    yield from attribute_parts(dict(getattr(value, "__dict__", {})))


def _complex(value: complex) -> Parts:
    yield b"complex:"
    yield Child(value.real)
    yield Child(value.imag)


def _bytearray(value: bytearray) -> Parts:
    yield b"bytearray:"
    yield memoryview(value)


def _singleton(value: Any) -> Parts:
    yield b"singleton:"
    yield Child(repr(value))


def _module(value: types.ModuleType) -> Parts:
    yield b"module:"
    yield Named(value.__name__, "")


def _method(value: types.MethodType) -> Parts:
    yield b"method:"
    yield Child(value.__func__)
    yield Child(value.__self__, "__self__")


def _builtin(value: types.BuiltinFunctionType) -> Parts:
    if value.__self__ is not None and not isinstance(value.__self__, types.ModuleType):
        yield from _reduced(value)
        return
    yield b"builtin:"
    yield Named(str(value.__module__), value.__qualname__)


def _function(function: types.FunctionType) -> Parts:
    """Yield a function's name and code, what it carries, and the code of the functions it calls.

    Other globals that it reads, and methods, are code of the same version. Neither does the code
    of pickle's own constructors count, which differs between versions of Python.
    """
    yield b"function:"
    yield Named(str(function.__module__), function.__qualname__)
    if function.__module__ == copyreg.__name__:
        return
    yield Child(function.__code__)
    if _is_of_a_library(function):
        return
    yield Child(function.__defaults__, "__defaults__")
    yield Child(function.__kwdefaults__, "__kwdefaults__")
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:
            yield b"empty:"
        else:
            yield Child(content, name)
    for helper in _helpers(function):
        yield Named(str(helper.__module__), helper.__qualname__)
        yield Child(helper.__code__)
        yield Child(helper.__defaults__)
        yield Child(helper.__kwdefaults__)
    if vars(function):
        yield from attribute_parts(dict(vars(function)))


def _helpers(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """Yield the functions that a function refers to by global names, directly or through others."""
    seen, waiting = {function}, [function]
    while waiting:
        caller = waiting.pop()
        for name in sorted(_names(caller.__code__)):
            for helper in _layers(caller.__globals__.get(name)):
                if helper not in seen and not _is_of_a_library(helper):
                    waiting.append(helper)
                    yield helper
                seen.add(helper)


def _layers(value: Any) -> Iterator[types.FunctionType]:
    """Yield a function, and those inside it that decorators have wrapped."""
    for _ in range(_MOST_DECORATORS):
        if value is None:
            return
        if isinstance(value, types.FunctionType):
            yield value
        try:
            value = getattr(value, "__wrapped__", None)
        except Exception as error:  # of a proxy, which stands for nothing now
            reraise_interruption(error)
            return


def _names(code: types.CodeType) -> set[str]:
    """Return the names in code and in the functions and comprehensions inside it."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _is_of_a_library(function: types.FunctionType) -> bool:
    """Return whether the version of its package covers what it carries."""
    module = str(function.__module__)
    return package_version(module.partition(".")[0]) is not None and _is_at(
        function, module, function.__qualname__
    )


def _code(code: types.CodeType) -> Parts:
    """Yield the parts of code: neither its location nor the version of Python."""
    yield b"code:"
    yield Child(code.co_code)
    yield Child(code.co_exceptiontable)
    yield Child((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
    yield Child((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
    yield Child(code.co_consts)


_DESCRIBED: dict[type, Callable[[Any], Parts]] = {
    bytearray: _bytearray,
    complex: _complex,
    dict: _dict,
    list: _sequence,
    tuple: _sequence,
    types.BuiltinFunctionType: _builtin,
    types.CodeType: _code,
    types.EllipsisType: _singleton,
    types.FunctionType: _function,
    types.MappingProxyType: _dict,
    types.MethodType: _method,
    types.ModuleType: _module,
    types.NotImplementedType: _singleton,
}


def _reduced(value: Any) -> Parts:
    """Yield what pickle would save of an object."""
    cls = type(value)
    reduce = copyreg.dispatch_table.get(cls)
    reduced: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(reduced, str):
        yield from _global(value, reduced)
        return
    function, arguments, state, items, pairs, setter = (*reduced, *[None] * 4)[:6]
    yield b"object:"
    yield named(cls)
    yield Child(function)
    for argument in arguments:  # not as a tuple, whose address is free after this call
        yield Child(argument)
    yield b")"
    yield from _state(cls, state)
    yield Child(setter)
    for item in items or ():
        yield Child(item)
    yield b")"
    yield from _pairs(pairs or ())


def _state(cls: type, state: Any) -> Parts:
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):  # slots
        yield b"slots:"
        yield from _state(cls, state[0])
        yield from _state(cls, state[1])
    elif state is None:
        yield from attribute_parts({})
    elif type(state) is dict and all(type(name) is str for name in state):
        yield from attribute_parts(without_derived(cls, state))
    else:
        yield b"state:"
        yield Child(state)


def _global(value: Any, name: str) -> Parts:
    """Yield the name of an object that pickle looks up."""
    module = getattr(value, "__module__", None)
    homes = (module,) if isinstance(module, str) else _HOMES
    home = next((home for home in homes if _is_at(value, home, name)), None)
    if home is not None:
        yield b"global:"
        yield Named(home, name)
    elif callable(wrapped := getattr(value, "__wrapped__", None)):  # functools.cache
        yield b"wrapped:"
        yield named(type(value))
        yield Child(wrapped)
    else:
        raise UnstableError(f"{name!r} can't be imported")


def _is_at(value: Any, module: str, qualname: str) -> bool:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is value


def package_version(root: str) -> str | None:
    """Return the `__version__` of a package that is imported; None if it has none."""
    version = getattr(sys.modules.get(root), "__version__", None)
    return version if isinstance(version, str) else None
