"""What there is to know about predictions: outcomes, events, hooks and counters.

Nothing here changes a prediction. Exporters such as Prometheus are in `integrations`.
"""
