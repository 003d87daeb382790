"""Scraped metrics: counts by kind of outcome."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.services import Service


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


def get(service: Service, path: str) -> bytes:
    status, _, body = service.exchange("GET", path)
    assert status == 200, body
    return body
