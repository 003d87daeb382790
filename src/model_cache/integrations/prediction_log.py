"""Log one line per prediction with the standard logging module, with the numbers as fields.

Failures are logged without this hook, by the logger "model_cache".
"""

from __future__ import annotations

import logging

from model_cache.observing.events import Event
from model_cache.observing.outcome import Outcome

logger = logging.getLogger("model_cache.predictions")


class PredictionLog:
    """Logs each prediction at INFO to the logger "model_cache.predictions".

    Pass it to the decorator by name, `hooks=["logging"]`. Each record has the fields of the
    `Outcome` as attributes of the same names, except that `kind` is called `outcome`.
    """

    def __call__(self, event: Event) -> None:
        """Log an outcome; ignore other events."""
        if not isinstance(event, Outcome) or not logger.isEnabledFor(logging.INFO):
            return
        fields = event._asdict()
        fields["outcome"] = fields.pop("kind")
        logger.info(
            "%s %s: %s, %.3f ms",
            *(event.model, event.version, event.kind, 1e3 * event.seconds),
            extra=fields,
        )
