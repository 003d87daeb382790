"""The advice in a notebook: the verdict, the facts and the table of choices."""

from __future__ import annotations

from model_cache.advisor.advice import Advice
from model_cache.advisor.report.markup import Markup, element, joined
from model_cache.advisor.report.tables import choices_table
from model_cache.advisor.summary import facts


def as_cell(advice: Advice) -> str:
    """Return the advice as HTML for a cell of a notebook."""
    so_far = "" if advice.complete else "INTERRUPTED: this is the advice so far. "
    return joined(
        element("p", element("strong", f"{so_far}{advice.sentence}")),
        choices_table(advice) if advice.choices else Markup(""),
        element("pre", "\n".join(facts(advice))),
    )
