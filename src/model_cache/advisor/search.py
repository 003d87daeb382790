"""Search for choices worth having: one field at a time, then the greedy way to the best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from model_cache.advisor.findings import Changes, Choice
from model_cache.advisor.trials import PRECISE, ROUGH, Bench, Option, Trial

_FEWEST, _FEW, _MANY = 100, 400, 4_000
_FINAL = 8_000
_PROMISING = 5
LOSSLESS = 1_000
"""From so many sampled requests none of whose answers changes, a choice counts as lossless."""

_WORTHWHILE = 0.005
_NEARLY_ALL = 0.995


@dataclass
class Search:
    """Compares choices within a budget.

    Args:
        bench: tries choices.
        levels: the numbers of places to try, by field that may be ignored; finest first.
        tolerance: the largest acceptable change; None for none.
        left: returns the seconds that are left of the budget.
        tell: receives the number of trials so far.

    Attributes:
        trials: what was found out, by choice.
        path: the greedy path to the best hit ratio.
        is_cut: whether the budget ended before the search.
    """

    bench: Bench
    levels: Mapping[str, Sequence[int]]
    tolerance: float | None
    left: Callable[[], float]
    tell: Callable[[int], None]
    trials: dict[Option, Trial] = field(default_factory=dict)
    path: list[Option] = field(default_factory=list)
    is_cut: bool = False

    def run(self, seconds_each: float) -> None:
        """Search.

        Args:
            seconds_each: how long a prediction takes.
        """
        rows = self._rows(seconds_each)
        self._try(Option(), rows)
        for option in self._singles():
            self._try(option, rows)
        self.path = self._greedy(rows, lambda _: True)
        if self.tolerance is not None:
            self._greedy(rows, self._tolerated)
        self._refine()
        self.settle()

    def _rows(self, seconds_each: float) -> int:
        """Return how many rows to compare in each trial, so that half of the budget is enough."""
        fields = len(self.levels)
        trials = sum(len(each) + 1 for each in self.levels.values()) + 2 * fields * fields
        affordable = self.left() / 2 / max(trials, 1) / max(seconds_each, 1e-9)
        return int(min(_FEW, max(_FEWEST, affordable), self.bench.most))

    def _singles(self) -> Iterable[Option]:
        for path, places in self.levels.items():
            yield from (Option().rounding(path, number) for number in places)
            if len(self.levels) > 1:
                yield Option().without(path)

    def _try(self, option: Option, rows: int) -> Trial | None:
        """Try a choice, unless it was tried on as many rows or the budget is used up."""
        known = self.trials.get(option)
        if known is not None and known.rows >= min(rows, self.bench.most):
            return known
        if self.left() <= 0:
            self.is_cut = True
            return known
        most = PRECISE if rows > _FEW else ROUGH
        found = self.trials[option] = self.bench.trial(option, rows, most)
        self.tell(len(self.trials))
        return found

    def _greedy(self, rows: int, allowed: Callable[[Trial], bool]) -> list[Option]:
        """Return the path that in each step gains the most hits for the least change."""
        now = self.trials.get(Option())
        path: list[Option] = []
        while now is not None and now.hit_ratio.value < _NEARLY_ALL:
            tried = [self._try(option, rows) for option in self._moves(now.option)]
            steps = [trial for trial in tried if trial is not None and allowed(trial)]
            if not steps or self.is_cut:
                break
            here = now
            now = max(steps, key=lambda trial: self._gain(here, trial))
            path.append(now.option)
        return path

    def _moves(self, option: Option) -> Iterable[Option]:
        """Yield the choices one step further: the next places of a field, or without it."""
        rounded = dict(option.places)
        for path, places in self.levels.items():
            if path in option.ignored:
                continue
            coarser = [each for each in places if path not in rounded or each < rounded[path]]
            if coarser:
                yield option.rounding(path, coarser[0])
            if len(option.ignored) + 1 < len(self.levels):
                yield option.without(path)

    def _gain(self, here: Trial, there: Trial) -> float:
        floor = 0.002 * (self.bench.spread or 1.0)
        gain = there.hit_ratio.value - here.hit_ratio.value
        more = max(0.0, there.changes.cost.value - here.changes.cost.value)
        return (gain + 1e-4) / (more + floor)

    def _tolerated(self, trial: Trial) -> bool:
        return is_tolerated(trial.changes, self.tolerance, sure=False)

    def _refine(self) -> None:
        """Compare the choices that matter on more rows, as long as the budget lasts."""
        for rows in (LOSSLESS, _MANY, _FINAL):
            for _ in range(3):  # with better estimates, others may matter
                for option in [*self._promising(), Option(), *self._worth_having()]:
                    self._try(option, rows)
            for option in [*self._singles(), *self.path]:
                self._try(option, min(rows, _MANY))
        self.is_cut = False

    def _promising(self) -> list[Option]:
        """Return the choices with the most hits that may turn out to be acceptable."""
        found = [
            trial
            for trial in self.trials.values()
            if trial.changes.share.value == 0.0 or self._tolerated(trial)
        ]
        found.sort(key=lambda trial: -trial.hit_ratio.value)
        return [trial.option for trial in found[:_PROMISING]]

    def settle(self) -> None:
        """Compute the hit ratios that matter from as many requests as in the end."""
        for option in {*self._singles(), *self._worth_having(), *self.path, Option()}:
            trial = self.trials.get(option)
            if trial is not None and trial.rows <= _FEW:
                ratio = self.bench.hit_ratio(option)
                self.trials[option] = replace(trial, hit_ratio=ratio)

    def _worth_having(self) -> list[Option]:
        best = self.recommended()
        options = [trial.option for trial in frontier([*self.trials.values()])]
        return options if best is None else [best, *options]

    def recommended(self) -> Option | None:
        """Return the simplest choice with about the most hits whose changes are acceptable."""
        exact = self.trials.get(Option())
        if exact is None:
            return None
        found = [
            trial
            for trial in self.trials.values()
            if trial is exact
            or is_lossless(trial)
            or is_tolerated(trial.changes, self.tolerance, sure=True)
        ]
        best = _simplest(found)
        return None if best is None else best.option

    def unproven(self) -> Trial | None:
        """Return the choice with the most hits that would be recommended from a larger sample."""
        best = self.trials.get(self.recommended() or Option())
        if best is None:
            return None
        found = [
            trial
            for trial in self.trials.values()
            if trial.changes.share.value == 0.0
            and trial.changes.sampled
            and not is_lossless(trial)
            and trial.hit_ratio.value > best.hit_ratio.value + _WORTHWHILE
        ]
        return _simplest(found)

    def choices(self) -> tuple[list[Choice], int | None]:
        """Return all choices that were compared, and the place of the recommended one."""
        worth = {trial.option for trial in frontier([*self.trials.values()])}
        steps = {option: number for number, option in enumerate(self.path, 1)}
        choices = [
            trial.choice(on_frontier=option in worth, step=steps.get(option))
            for option, trial in self.trials.items()
        ]
        best = self.recommended()
        return choices, None if best is None else list(self.trials).index(best)


def _simplest(trials: Sequence[Trial]) -> Trial | None:
    """Return the simplest trial of those with about the most hits."""
    # A field more for next to no hits is not worth it.
    most = max((trial.hit_ratio.value for trial in trials), default=0.0)
    enough = [trial for trial in trials if trial.hit_ratio.value >= most - _WORTHWHILE]
    return min(enough, key=_simplicity, default=None)


def _simplicity(trial: Trial) -> tuple[int, float, float]:
    fields = len(trial.option.places) + len(trial.option.ignored)
    return fields, trial.changes.cost.value, -trial.hit_ratio.value


def is_lossless(trial: Trial) -> bool:
    """Return whether a choice changes no answer, as far as the sample shows."""
    # Requests that made the model raise count as seen: no answer is stored for them.
    is_enough = trial.rows >= LOSSLESS and trial.changes.sampled >= _FEWEST
    return is_enough and trial.changes.share.value == 0.0


def is_tolerated(changes: Changes, tolerance: float | None, *, sure: bool) -> bool:
    """Return whether the changes are within the tolerance.

    Args:
        changes: how answers change.
        tolerance: for numbers, what 99% of the changes must not exceed; for labels, the share of
            flips. None: nothing may change.
        sure: whether the upper end of the interval must be within it.
    """
    if tolerance is None:
        return False
    # Numbers beside labels: a flipped label is a change beyond any tolerance.
    if changes.p99 is not None and changes.flipped is not None and changes.flipped.value > 0.01:
        return False
    found = changes.p99 or changes.flipped or changes.share
    return (found.high if sure else found.value) <= tolerance


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials of which no other has at least as many hits with less change."""
    found: list[Trial] = []
    best = -1.0
    order = sorted(trials, key=lambda each: (each.changes.cost.value, -each.hit_ratio.value))
    for trial in order:
        if trial.hit_ratio.value > best + 1e-9:
            best = trial.hit_ratio.value
            found.append(trial)
    return found
