"""rest_model_service's own app in a separate process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.services import Service

CONFIGURATION = """
service_title: Charges
models:
  - class_path: tests.models.FunctionModel
    create_endpoint: true
    decorators:
      - class_path: model_cache.RedisCachingDecorator
        configuration:
          url: {url}
          prefix: rest
          ttl: 3600
          timeout: 2.0
          hashing_fields: [age, sex, bmi, children, smoker]
          reduced_precision_fields: [bmi]
          number_of_places: 1
          serder: MessagePack
          use_compression: true
          integrity: true
"""


def rest_service(configuration: Path) -> Service:
    """Run rest_model_service's own app in a process; a block stops it."""
    command = ["uvicorn", "rest_model_service.main:app", "--host", "127.0.0.1"]
    environment = {"REST_CONFIG": str(configuration)}
    log = configuration.with_name("service.log")
    return Service(command, environment, log, "/api/health/ready")


def predicted(service: Service, body: str) -> tuple[int, Any]:
    """Return the status and the JSON of the answer to a request for a prediction."""
    return service.call("POST", "/api/models/test_model/prediction", body)
