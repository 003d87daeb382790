"""The standard logging module: one line for each prediction, its numbers as fields of the record.

What goes wrong is logged without this, by the logger "model_cache".
"""

from __future__ import annotations

import logging

from model_cache.observing.events import Event
from model_cache.observing.outcome import Outcome

logger = logging.getLogger("model_cache.predictions")


class PredictionLog:
    """Logs each prediction at INFO to the logger "model_cache.predictions".

    Give it to the decorator by its name, `hooks=["logging"]`. Each record has the fields of the
    `Outcome` as attributes of their names, but for `kind`, which is `outcome` there.
    """

    def __call__(self, event: Event) -> None:
        """Log an outcome; other events are logged elsewhere."""
        if not isinstance(event, Outcome) or not logger.isEnabledFor(logging.INFO):
            return
        fields = event._asdict()
        fields["outcome"] = fields.pop("kind")
        logger.info(
            "%s %s: %s, %.3f ms",
            *(event.model, event.version, event.kind, 1e3 * event.seconds),
            extra=fields,
        )
