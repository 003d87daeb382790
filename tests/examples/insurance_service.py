"""The insurance service in its own processes, and its configuration."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from examples.insurance_service.app import CONFIGURATION
from tests.services import Service

PREDICTION = "/api/models/insurance_charges_model/prediction"
READY = "/api/health/ready"
UVICORN = ["uvicorn", "--factory", "examples.insurance_service.app:create_app"]
GUNICORN = ["gunicorn", "--config", "examples/insurance_service/gunicorn.conf.py"]
REQUEST = {
    "age": 42,
    "sex": "female",
    "bmi": 24.0,
    "children": 2,
    "smoker": False,
    "region": "northwest",
}


class InsuranceService(Service):
    def predict(self, **changes: Any) -> dict[str, Any]:
        status, answer = self.call("POST", PREDICTION, json.dumps({**REQUEST, **changes}))
        assert status == 200, answer
        return dict(answer)

    def workers(self) -> set[int]:
        """Return which processes have answered predictions, from the access log."""
        pattern = rf"\[(\d+)\] INFO uvicorn\.access: .*{PREDICTION}"
        return {int(pid) for pid in re.findall(pattern, self.log)}


def configured(folder: Path, model: Path, **options: Any) -> str:
    """Return the service's own configuration, for a model's file elsewhere."""
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    (served,) = configuration["models"]
    served["configuration"] = {"model_path": str(model)}
    # A busy machine must not turn hits into predictions.
    options = {"revision": [str(model)], "timeout": 10.0, **options}
    served["decorators"][0]["configuration"] |= options
    path = folder / "rest_configuration.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return str(path)


@contextlib.contextmanager
def running(
    command: list[str],
    folder: Path,
    model: Path,
    url: str,
    timeout: float = 10.0,
    **environment: str,
) -> Iterator[InsuranceService]:
    configuration = configured(folder, model, timeout=timeout)
    environment |= {"REST_CONFIG": configuration, "REDIS_URL": url}
    with InsuranceService(command, environment, folder / "service.log", READY) as service:
        yield service
