"""Combine the connection options (url, host, login, TLS) into one `Endpoint`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from model_cache.errors import ConfigurationError
from model_cache.option_values import flag, secret, text, whole
from model_cache.redaction import revealed, sealed
from model_cache.stores import tls
from model_cache.stores.tls import tls_from
from model_cache.stores.url import DEFAULT, Endpoint, parse_url


def endpoint_from(options: Mapping[str, Any], environment: Callable[[str], str | None]) -> Endpoint:
    """Return the endpoint from `url`, else host and port, else REDIS_URL, else localhost."""
    username, password = options["username"], options["password"]
    if username is not None:
        text("username", username)
    secret("password", password)
    if isinstance(revealed(password), bytes):
        raise ConfigurationError("password", "expected a string, got bytes")
    if username is not None and password is None:
        raise ConfigurationError("username", "needs a password")
    endpoint = _address(options, environment).with_login(username, password)
    if options["credential_provider"] is not None:
        _refuse_login(endpoint)
    if endpoint.username is not None and endpoint.password is None:
        raise ConfigurationError(
            "url", "has a username but no password; pass it as the option 'password'"
        )
    return endpoint.behind_proxy() if flag("proxied", options["proxied"]) else endpoint


def _address(options: Mapping[str, Any], environment: Callable[[str], str | None]) -> Endpoint:
    """Return the endpoint, with the login in its url if there is one."""
    url = options["url"]
    given = [
        name for name in ("host", "port", "database") if not isinstance(options[name], DEFAULT)
    ]
    if url is not None and given:
        raise ConfigurationError("url", f"can't be combined with {' and '.join(given)}")
    encryption = {name: options[name] for name in tls.NAMES if options[name] is not None}
    if url is not None:
        return parse_url("url", url, encryption)
    has_login = options["username"] is not None or options["password"] is not None
    variable = sealed(environment("REDIS_URL") or None)
    if not given and not has_login and variable is not None:
        return parse_url("REDIS_URL", variable, encryption, shared=True)
    return Endpoint(
        host=_host(options["host"]),
        port=_port(options["port"]),
        database=whole("database", options["database"], 0, 2**31 - 1),
        tls=tls_from(encryption) if encryption else None,
    )


def _refuse_login(endpoint: Endpoint) -> None:
    """Raise `ConfigurationError` if an endpoint has a login beside a credential provider's."""
    if endpoint.embedded:
        raise ConfigurationError(
            "credential_provider", "can't be used with the embedded server, which has no login"
        )
    if endpoint.username is not None or endpoint.password is not None:
        raise ConfigurationError(
            "credential_provider",
            "can't be combined with a username or password, as options or in the url",
        )


def _host(value: object) -> str:
    if callable(getattr(value, "predict", None)):
        raise ConfigurationError(
            "host",
            "expected a host name or address, got a model; pass the model to set_model: "
            "RedisCachingDecorator(...).set_model(model)",
        )
    host = value if isinstance(value, SecretStr) else text("host", value)
    if not isinstance(host, str) or not re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:.%]+", host):
        # Don't show the value: it may be a url that contains a password.
        raise ConfigurationError(
            "host",
            "expected a host name or address without a port; use the option 'url' for a url",
        )
    return host


def _port(value: object) -> int:
    if isinstance(value, str) and value.strip().startswith("tcp://"):
        raise ConfigurationError(
            "port",
            f"expected a number from 1 to 65535, got {value!r}; Kubernetes and Docker set "
            "REDIS_PORT to a url when a service is named redis: use another variable",
        )
    return whole("port", value, 1, 65_535)
