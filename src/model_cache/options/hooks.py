"""The hooks of the option `hooks`: built-in ones by name, others by import path or as objects."""

from __future__ import annotations

import inspect

from model_cache.errors import ConfigurationError, did_you_mean
from model_cache.import_paths import imported
from model_cache.observing.events import Hook
from model_cache.option_values import wrong

HOOKS = {
    "logging": "model_cache.integrations.prediction_log:PredictionLog",
    "opentelemetry": "model_cache.integrations.opentelemetry:OpenTelemetryHook",
    "prometheus": "model_cache.integrations.prometheus:PrometheusHook",
}
"""The built-in hooks, by the names that the option `hooks` accepts; imported on first use."""


def hooks_of(value: object) -> tuple[Hook, ...]:
    """Return the hooks that the option `hooks` lists.

    Raises:
        ConfigurationError: it is not a list, or one of them is not a hook.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise wrong("hooks", value, "a list of names, import paths or callables")
    hooks = tuple(map(_hook, value))
    names = [name for name, path in HOOKS.items() for hook in hooks if _is_made_by(path, hook)]
    for name in HOOKS:
        if names.count(name) > 1:
            raise ConfigurationError("hooks", f"{name!r} is listed twice and would count twice")
    return hooks


def _is_made_by(path: str, hook: Hook) -> bool:
    return f"{type(hook).__module__}:{type(hook).__qualname__}" == path


def _hook(value: object) -> Hook:
    found = value
    if isinstance(value, str):
        if value not in HOOKS and ":" not in value:
            raise ConfigurationError(
                "hooks",
                f"unknown hook {value!r}; {did_you_mean(value, HOOKS)} "
                "(or use 'package.module:name')",
            )
        found = imported("hooks", HOOKS.get(value, value))
    if isinstance(found, type):
        found = found()
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise wrong("hooks", value, "a name, an import path, or a callable that is not async")
    hook: Hook = found
    return hook
