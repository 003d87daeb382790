"""Signatures in the API reference, in names that a reader knows.

The package's type aliases and constants are replaced with their definitions. Parameters that exist
only to reject wrong names are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import griffe

# Their definitions would say less than their names.
_NAMED = {"model_cache.observing.events.Event"}
_CATCH_ALL = griffe.ParameterKind.var_keyword


class ReadableSignatures(griffe.Extension):
    """Rewrites annotations and defaults once the package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite those of all functions and attributes of a package."""
        for member in _members(pkg):
            if isinstance(member, griffe.Function):
                for parameter in list(member.parameters):
                    _simplify(member, parameter)
                member.returns = _spelled_out(member.returns, pkg)
            else:
                member.annotation = _spelled_out(member.annotation, pkg)
                if isinstance(member.value, griffe.ExprDict):  # the docstring says more
                    member.value = None
                elif isinstance(member.value, griffe.ExprCall):  # a dataclass: field(default=...)
                    for argument in member.value.arguments:
                        if isinstance(argument, griffe.ExprKeyword):
                            argument.value = _value(argument.value, pkg)


def _members(owner: griffe.Module | griffe.Class) -> Iterator[griffe.Function | griffe.Attribute]:
    for member in owner.members.values():
        if isinstance(member, griffe.Function | griffe.Attribute):
            yield member
        elif isinstance(member, griffe.Module | griffe.Class):
            yield from _members(member)


def _simplify(function: griffe.Function, parameter: griffe.Parameter) -> None:
    package = function.package
    if parameter.kind is _CATCH_ALL and str(parameter.annotation) == "Never":
        del function.parameters[parameter.name]
    elif parameter.kind is _CATCH_ALL and str(parameter.annotation).startswith("Unpack["):
        parameter.annotation, parameter.default = "Any", None
    else:
        parameter.annotation = _spelled_out(parameter.annotation, package)
        parameter.default = _value(parameter.default, package)


def _value(default: Any, package: griffe.Module) -> Any:
    """Return what a default is, if it is a constant of the package."""
    if isinstance(default, griffe.ExprName) and default.canonical_path.startswith(package.path):
        module, _, name = default.canonical_path.rpartition(".")
        if name.isupper():
            return repr(getattr(import_module(module), name))
    return default


def _spelled_out(annotation: Any, package: griffe.Module) -> Any:
    """Return an annotation in which type aliases of the package are their definitions."""
    if not isinstance(annotation, griffe.Expr):
        return annotation
    return "".join(
        each if isinstance(each, str) else _definition(each, package)
        for each in annotation.iterate(flat=True)
    )


def _definition(name: griffe.ExprName, package: griffe.Module) -> str:
    try:
        found = package.modules_collection[name.canonical_path]
        found = found.final_target if isinstance(found, griffe.Alias) else found
    except (KeyError, griffe.AliasResolutionError):  # of another package
        return name.name
    if found.path in _NAMED or str(getattr(found, "annotation", None)) != "TypeAlias":
        return name.name
    return str(_spelled_out(found.value, package)).strip('"')
