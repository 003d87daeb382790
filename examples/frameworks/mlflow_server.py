"""MLflow's scoring server: the cache is around the model that it is given.

MODEL_URI=models:/charges/1 uvicorn examples.frameworks.mlflow_server:app
"""

from __future__ import annotations

import os

import mlflow.pyfunc
from mlflow.pyfunc import scoring_server

from model_cache import Cache

cache = Cache(ttl=86_400)  # at REDIS_URL
model = mlflow.pyfunc.load_model(os.environ["MODEL_URI"])
app = scoring_server.init(cache.wrap(model, name="charges", version="1.0.0"))
