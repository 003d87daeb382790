"""The service: rest_model_service's app, which also waits for its models and closes its caches.

uvicorn --factory examples.insurance_service.app:create_app
gunicorn --config examples/insurance_service/gunicorn.conf.py
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator
from rest_model_service.configuration import ServiceConfiguration
from rest_model_service.helpers import create_app as create_rest_app

from examples.insurance_service.errors import explain_errors
from model_cache.integrations.fastapi import add_model_cache, managed_models

CONFIGURATION = Path(__file__).with_name("rest_configuration.yaml")
_CACHE = "model_cache.RedisCachingDecorator"


def create_app() -> FastAPI:
    """Return the app with its models loaded.

    Environment variables: REST_CONFIG, another configuration file; REDIS_URL, the url of Redis;
    REDIS_PASSWORD_FILE, a file with its password, as Docker and Kubernetes mount secrets.

    Raises:
        Exception: a model or decorator can't be created, so the service does not start.
    """
    path = Path(os.environ.get("REST_CONFIG", CONFIGURATION))
    # rest_model_service creates its models on a thread. gunicorn's preload forks when this returns,
    # and a fork has no such thread: without waiting for it, each prediction would be a 404.
    configuration = read_configuration(path, os.environ)
    app: FastAPI = create_rest_app(configuration, wait_for_model_creation=True)
    if configuration.metrics is not None and configuration.metrics.enabled:
        settings = configuration.metrics.model_dump(exclude={"enabled"})
        Instrumentator(**settings).instrument(app).expose(app, include_in_schema=False)
    explain_errors(app)
    # Adds X-Cache to responses, a health endpoint, and closes the caches when a worker stops.
    add_model_cache(app, managed_models, health_path="/api/health/cache")
    return app


def read_configuration(path: Path, environment: Mapping[str, str]) -> ServiceConfiguration:
    """Return the configuration from a YAML file, completed with options from the environment."""
    configuration = ServiceConfiguration(**yaml.safe_load(path.read_text(encoding="utf-8")))
    for model in configuration.models:
        for decorator in model.decorators or ():
            if decorator.class_path == _CACHE:
                decorator.configuration = {
                    **(decorator.configuration or {}),
                    **redis_options(environment),
                }
    return configuration


def redis_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the cache's connection options from environment variables."""
    options = {}
    if url := environment.get("REDIS_URL"):
        options["url"] = url
    if file := environment.get("REDIS_PASSWORD_FILE"):
        options["password"] = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    return options
