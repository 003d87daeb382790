"""The model for `warm`: from an import path, or from the configuration of a service."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ml_base.ml_model import MLModel
from pydantic import BaseModel, ValidationError

from model_cache.advisor.request_file import reason
from model_cache.binding.decorators import layers
from model_cache.cli.target import LOCAL, embedded_error, login, secrets
from model_cache.decorator import RedisCachingDecorator
from model_cache.errors import ConfigurationError, said_by
from model_cache.import_paths import imported
from model_cache.interruptions import reraise_interruption

_ADDRESS = ("url", "host", "port", "database", "username", "password")
# Failures of Redis must not pass silently, and what fills the cache is no traffic to record. None
# of these options affects keys or entries.
_WARMING = {"on_error": "raise", "write": "foreground", "record": None, "record_share": 1.0}


def caches_of(model: MLModel) -> list[RedisCachingDecorator]:
    """Return the caches around a model, the outermost first."""
    return [layer for layer in layers(model) if isinstance(layer, RedisCachingDecorator)]


def load(
    model: str | None, options: Path | None, config: Path | None, changes: Mapping[str, Any]
) -> MLModel:
    """Return a model with a cache around it; `changes` override the options in the files.

    Raises:
        ConfigurationError: the model can't be loaded, or an option is invalid.
    """
    if config is not None and options is not None:
        raise ConfigurationError("--options", "can't be combined with --config")
    if config is not None:
        loaded = _load_service(config, model, changes)
    elif model is not None:
        loaded = _load_model(model, options, changes)
    else:
        raise ConfigurationError("--model", "is required, unless --config names a service")
    for settings in (cache.cache_settings for cache in caches_of(loaded)):
        if not settings.enabled:
            raise ConfigurationError("enabled", "the cache is turned off, so it can't be filled")
        if settings.store == "embedded":
            raise embedded_error()
    return loaded


def load_plain(path: str) -> MLModel:
    """Return the model at `package.module:name` or `package.module.name`, which may be its class.

    Raises:
        ConfigurationError: it can't be loaded.
    """
    if ":" not in path:
        module, _, name = path.rpartition(".")
        if not (module and name):
            expected = "package.module.Class or package.module:name"
            raise ConfigurationError("--model", f"expected {expected}, got {path!r}")
        path = f"{module}:{name}"
    model = _made("--model", imported, "--model", path)
    if isinstance(model, type) and issubclass(model, MLModel):
        model = _made("--model", model)
    if not isinstance(model, MLModel):
        raise ConfigurationError("--model", f"{path!r} is not an ml-base MLModel")
    return model


def _load_model(path: str, options_file: Path | None, changes: Mapping[str, Any]) -> MLModel:
    model = load_plain(path)
    if caches_of(model):
        if options_file or changes.keys() - {"timeout"}:
            raise ConfigurationError(
                "--model",
                f"{path!r} already has a cache, so --options, --url and --prefix do not apply",
            )
        return model
    options = _mapping("--options", options_file) if options_file else {}
    options = {**secrets(), **options}
    cache = _made("--options", RedisCachingDecorator, **_completed(options, changes))
    return cache.set_model(model)


class _Part(BaseModel):
    """A model or a decorator in a service's configuration."""

    class_path: str
    configuration: dict[str, Any] | None = None

    @property
    def type(self) -> Any:
        module, _, name = self.class_path.rpartition(".")
        return _made("--config", imported, "class_path", f"{module}:{name}")

    def make(self) -> Any:
        return _made(self.class_path, self.type, **(self.configuration or {}))


class _Model(_Part):
    decorators: list[_Part] | None = None

    @property
    def is_cached(self) -> bool:
        return any(map(_is_cache, self.decorators or ()))


class _Service(BaseModel):
    models: list[_Model]


def _is_cache(part: _Part) -> bool:
    return isinstance(part.type, type) and issubclass(part.type, RedisCachingDecorator)


def _load_service(file: Path, chosen: str | None, changes: Mapping[str, Any]) -> MLModel:
    """Return a model of a rest_model_service with all its decorators, built as the service does."""
    try:
        service = _Service.model_validate(_mapping("--config", file))
    except ValidationError as error:
        raise ConfigurationError("--config", f"{str(file)!r}: {reason(error)}") from None
    part = _chosen(service, chosen)
    model = part.make()
    for each in part.decorators or ():
        if _is_cache(each):
            each.configuration = _completed(each.configuration or {}, changes)
        model = each.make().set_model(model)
    return model


def _chosen(service: _Service, chosen: str | None) -> _Model:
    """Return the model with a cache that is meant, by class path or qualified name."""
    cached = {each.class_path: each for each in service.models if each.is_cached}
    if not cached:
        raise ConfigurationError("--config", "no model has a RedisCachingDecorator")
    if chosen is None and len(cached) == 1:
        return next(iter(cached.values()))
    if chosen is not None:
        if (path := chosen.replace(":", ".")) in cached:
            return cached[path]
        for each in cached.values():
            if each.make().qualified_name == chosen:
                return each
    names = ", ".join(map(repr, cached))
    raise ConfigurationError("--model", f"expected one of {names}, got {chosen!r}")


def _completed(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a cache, completed by the command line and the environment."""
    completed = dict(options)
    if "url" in changes:
        completed = {name: value for name, value in options.items() if name not in _ADDRESS}
    completed |= {**changes, **_WARMING}
    given = login()
    if given["password"] is not None and completed.get("password") is None:
        completed |= {name: value for name, value in given.items() if value is not None}
        if not any(name in completed for name in ("url", "host", "port", "database")):
            completed["url"] = os.environ.get("REDIS_URL") or LOCAL
    return completed


def import_from_here() -> None:
    """Make modules in the current folder importable, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _mapping(option: str, file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(option, f"can't read {str(file)!r}: {said_by(error)}") from error
    except yaml.YAMLError as error:
        # The error quotes the file, which may hold a password.
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigurationError(option, f"{str(file)!r} is not valid YAML{line}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConfigurationError(option, f"{str(file)!r} must be a mapping of names to values")
    return found


def _made(option: str, make: Any, /, *args: Any, **options: Any) -> Any:
    """Call code of the user, which may raise anything."""
    try:
        return make(*args, **options)
    except ConfigurationError:
        raise
    except Exception as error:
        reraise_interruption(error)
        name = getattr(make, "__qualname__", str(make))
        what = args[-1] if args else name
        raise ConfigurationError(
            option, f"loading {what!r} failed with {type(error).__name__}: {error}"
        ) from error
