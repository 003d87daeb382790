"""LitServe: the cache is in the worker, around what `LitAPI.predict` calls.

python -m examples.frameworks.litserve_api
"""

import os
from typing import Any

import litserve

from examples.frameworks.charges import load, table
from model_cache import Cache


class ChargesAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002  # runs in each worker
        cache = Cache(ttl=86_400)  # at REDIS_URL
        self.model = cache.wrap(load(), name="charges", version="1.0.0")

    def decode_request(self, request: dict[str, Any]) -> Any:
        return table(request["people"])

    def predict(self, people: Any) -> Any:
        return self.model.predict(people)

    def encode_response(self, charges: Any) -> dict[str, list[float]]:
        return {"charges": charges.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(ChargesAPI(), accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), generate_client_file=False
    )
