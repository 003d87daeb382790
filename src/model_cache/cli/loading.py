"""Models to warm a cache with: found by their import paths, or in a service's configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ml_base.ml_model import MLModel

from model_cache.cli.connection import LOCAL, key_secret, login
from model_cache.decorator import RedisCachingDecorator
from model_cache.errors import ConfigurationError
from model_cache.layers import layers
from model_cache.registry import imported

_PLACE = ("url", "host", "port", "database", "username", "password")
# What a failing store must not pass over in silence; neither is part of a key or an entry.
_WARMING = {"on_error": "raise", "write": "foreground"}


def caches_of(model: MLModel) -> list[RedisCachingDecorator]:
    """Return the caches around a model, the outermost first."""
    return [layer for layer in layers(model) if isinstance(layer, RedisCachingDecorator)]


def load_model(path: str, options_file: Path | None, changes: Mapping[str, Any]) -> MLModel:
    """Return a model with a cache around it.

    Args:
        path: `package.module:name` of a class, of an instance, or of one with a cache around it.
        options_file: a YAML mapping of the cache's options.
        changes: options that go before those in the file.

    Raises:
        ConfigurationError: it can't be loaded, or an option can't be honoured.
    """
    model = _made("--model", imported, "--model", path)
    if isinstance(model, type) and issubclass(model, MLModel):
        model = _made("--model", model)
    if not isinstance(model, MLModel):
        raise ConfigurationError(
            "--model", f"{path!r} is no ml-base MLModel, nor an instance of one"
        )
    if caches_of(model):
        if options_file or changes.keys() - {"timeout"}:
            raise ConfigurationError(
                "--model", f"{path!r} has a cache already: no options go with it, nor a url"
            )
        return model
    options = _mapping("--options", options_file) if options_file else {}
    if (secret := key_secret()) is not None:
        options.setdefault("key_secret", secret)
    cache = _made("--options", RedisCachingDecorator, **_completed(options, changes))
    return cache.set_model(model)


def load_service(file: Path, chosen: str | None, changes: Mapping[str, Any]) -> MLModel:
    """Return a model of a rest_model_service with all its decorators, as the service makes it.

    Args:
        file: the service's configuration.
        chosen: the model's class path or qualified name; None for the only one with a cache.
        changes: options of the cache that go before those in the file.

    Raises:
        ConfigurationError: it can't be loaded, or an option can't be honoured.
    """
    listed = _mapping("--config", file).get("models")
    entries = (
        [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    )
    cached = [each for each in entries if any(map(_is_cache, _decorators(each)))]
    if not cached:
        raise ConfigurationError(
            "--config", f"{str(file)!r}: no model with a RedisCachingDecorator"
        )
    models = {_class_path(each): each for each in cached}
    if chosen is not None:
        wanted = chosen.replace(":", ".")
        entry = models.get(wanted) or next(
            (each for each in cached if _model(each).qualified_name == chosen), None
        )
    else:
        entry = cached[0] if len(cached) == 1 else None
    if entry is None:
        raise ConfigurationError(
            "--model", f"say which of the models in {str(file)!r}: {', '.join(map(repr, models))}"
        )
    model = _model(entry)
    for each in _decorators(entry):
        options = _configuration(each)
        decorator = _type(each)
        if issubclass(decorator, RedisCachingDecorator):
            options = _completed(options, changes)
        model = _made(_class_path(each), decorator, **options).set_model(model)
    return model


def _completed(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a cache, with where it is and the login, if they are from elsewhere."""
    completed = dict(options)
    if "url" in changes:
        completed = {name: value for name, value in options.items() if name not in _PLACE}
    completed |= {**changes, **_WARMING}
    given = login()
    if given["password"] is not None and completed.get("password") is None:
        completed |= {name: value for name, value in given.items() if value is not None}
        if not any(name in completed for name in ("url", "host", "port", "database")):
            completed["url"] = os.environ.get("REDIS_URL") or LOCAL
    return completed


def import_from_here() -> None:
    """Let import paths begin in the current folder, as with `python -m`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _mapping(option: str, file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(option, f"can't read {str(file)!r}: {error}") from error
    except yaml.YAMLError as error:
        # Without its text, in which there may be a password.
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigurationError(option, f"{str(file)!r} is no YAML{line}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConfigurationError(option, f"{str(file)!r} is not a mapping of names to values")
    return found


def _decorators(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = entry.get("decorators") or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ConfigurationError(
            "--config", f"{_class_path(entry)}: decorators is no list of mappings"
        )
    return found


def _configuration(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = entry.get("configuration") or {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConfigurationError("--config", f"{_class_path(entry)}: configuration is no mapping")
    return found


def _class_path(entry: Mapping[str, Any]) -> str:
    return str(entry.get("class_path"))


def _type(entry: Mapping[str, Any]) -> Any:
    module, _, name = _class_path(entry).rpartition(".")
    return _made("--config", imported, "class_path", f"{module}:{name}")


def _is_cache(entry: Mapping[str, Any]) -> bool:
    found = _type(entry)
    return isinstance(found, type) and issubclass(found, RedisCachingDecorator)


def _model(entry: Mapping[str, Any]) -> MLModel:
    return _made("--config", _type(entry), **_configuration(entry))


def _made(option: str, make: Any, /, *args: Any, **options: Any) -> Any:
    """Call what is not this library's, and may raise anything."""
    try:
        return make(*args, **options)
    except ConfigurationError:
        raise
    except Exception as error:
        name = getattr(make, "__qualname__", str(make))
        what = args[-1] if args else name
        raise ConfigurationError(
            option, f"making {what!r} raised {type(error).__name__}: {error}"
        ) from error
