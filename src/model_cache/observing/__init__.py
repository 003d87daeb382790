"""Observe predictions: outcomes, events, hooks and counters.

Observing never changes a prediction, except in the blocks of `scope`. Exporters such as Prometheus
are in `integrations`.
"""
