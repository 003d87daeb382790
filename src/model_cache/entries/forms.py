"""The forms that an entry may take, and which of them work for the predictions seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel

from model_cache.entries.envelope import UNSET
from model_cache.entries.serders import JSON, MESSAGE_PACK, VALUES
from model_cache.entries.unset_fields import all_set, unset_fields, with_unset
from model_cache.protocols import Serder

# After this many consecutive refusals, only one in this many predictions is tried.
_FAILURES = 8
_TRIED_OF_FAILING = 16
# After this many consecutive failures of the first form, another one is tried first for a while.
_MISLED = 3
_PREDICTIONS_OF_AN_ORDER = 256


class Form(NamedTuple):
    """A form in which a prediction can be dumped.

    Attributes:
        serder: the serder.
        notes_unset: whether to dump all fields, with a list of those that are not set.
    """

    serder: Serder
    notes_unset: bool = False

    def dumps(self, prediction: BaseModel) -> tuple[bytes, int] | None:
        """Return a prediction in this form, and its flags; None if it has no such form."""
        if not self.notes_unset:
            return self.serder.dumps(prediction), 0
        unset = unset_fields(prediction)
        if not unset:
            return None  # the form without notes is enough
        return with_unset(unset, self.serder.dumps(all_set(prediction))), UNSET


def forms_of(serder: Serder) -> list[Form]:
    """Return the forms that entries of a serder may take, the best one first."""
    if serder is VALUES:  # it has the names, too, if some fields are not set
        return [Form(VALUES), *forms_of(MESSAGE_PACK)]
    other = JSON if serder is MESSAGE_PACK else MESSAGE_PACK
    return [Form(each, notes_unset) for each in (serder, other) for notes_unset in (False, True)]


class Forms:
    """The forms that an entry may take, with statistics of which ones work.

    Each failed form costs a dump, a load and a comparison. So if another form works where the first
    one fails, it is soon tried first; if none works, only an occasional prediction is tried.
    Threads may share this: a lost count does no harm.

    Args:
        forms: the forms, in order of preference.

    Attributes:
        reason: why the last refused prediction did not fit any form.
    """

    def __init__(self, forms: Sequence[Form]) -> None:
        self.reason = ""
        self._best = self._order = tuple(forms)
        self._tried = self._misled = self._failed = 0

    def to_try(self) -> Sequence[Form]:
        """Return the forms in the order to try them; none while nearly all are refused."""
        if self._failed >= _FAILURES:
            self._failed += 1
            if self._failed % _TRIED_OF_FAILING:
                return ()
        self._tried += 1
        if self._tried % _PREDICTIONS_OF_AN_ORDER == 0:
            self._order, self._misled = self._best, 0
        return self._order

    def worked(self, form: Form) -> None:
        """Record that a form worked for a prediction."""
        self._failed = 0
        if form is self._order[0]:
            self._misled = 0
            return
        self._misled += 1
        if self._misled >= _MISLED:
            self._order = (form, *(each for each in self._best if each is not form))

    def failed(self, reason: str) -> None:
        """Record that no form worked for a prediction."""
        self.reason = reason
        self._failed += 1
