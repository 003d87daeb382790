"""Scraped metrics: counts by kind of outcome."""

from __future__ import annotations

import contextlib
import http.client

from prometheus_client.parser import text_string_to_metric_families


def counts(text: bytes, model: str = "test_model") -> dict[str, float]:
    """Return the predictions by outcome, but for those at zero."""
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "model_cache_predictions_total"
        and sample.labels["model"] == model
        and sample.value
    }


def get(port: int, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as one:
        one.request("GET", path)
        response = one.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body
