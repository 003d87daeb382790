"""The advice in a notebook: the verdict, the facts and the table of choices."""

from __future__ import annotations

from model_cache.advisor.advice import Advice
from model_cache.advisor.report.markup import Markup, element
from model_cache.advisor.report.tables import choices_table
from model_cache.advisor.summary import facts

# Without colors, which are those of the notebook's theme.
_STYLE = """
.model-cache-advice table :is(th, td) { white-space: nowrap; }
.model-cache-advice table :is(th, td):nth-child(2) { text-align: left; white-space: normal; }
.model-cache-advice caption { text-align: left; }
.model-cache-advice .badge { border: 1px solid; border-radius: 3px; padding: 0 4px; }
.model-cache-advice pre { font-family: monospace; }
"""


def as_cell(advice: Advice) -> str:
    """Return the advice as HTML for a cell of a notebook."""
    so_far = "" if advice.complete else "INTERRUPTED: this is the advice so far. "
    return element(
        "div",
        element("style", Markup(_STYLE)),
        element("p", element("strong", f"{so_far}{advice.sentence}")),
        choices_table(advice) if advice.choices else Markup(""),
        element("pre", "\n".join(facts(advice))),
        class_="model-cache-advice",
    )
