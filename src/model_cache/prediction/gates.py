"""Whether a cache pays for a model at present: what `adaptive` decides by.

A gate adds up what hits and misses take, and compares that with what the model alone would take.
While the cache costs more, only samples are looked up. Most are chosen by their key, so that an
input that is sampled once is sampled again when it returns: a sample of calls would see hardly any
of the reuse among many inputs. As the key costs time, too, it is made for some calls only. A few
more calls are chosen at random, since a handful of inputs may have no key in the sample.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from model_cache.interruptions import reraise_interruption
from model_cache.observing.costs import break_even_ratio
from model_cache.observing.events import CachePaused, CacheResumed, Hook
from model_cache.observing.outcome import Outcome

# While the cache is not used: the share of calls that are looked up whatever their key, the share
# whose keys are made, and one in how many keys is looked up.
_CALL_SHARE = 1 / 512
_KEY_SHARE = 1 / 8
_ONE_IN = 32
_PROBE_SHARE = _CALL_SHARE + _KEY_SHARE / _ONE_IN
# The most time that lookups may cost then, as a share of the model's.
_MOST_LOST = 0.003
# How much more to look up after a hit, which costs little and promises more, and after a miss.
_AFTER_HIT, _AFTER_MISS = 4.0, 0.7
_MOST_CALLS = 1 / 128
# Costs within this of each other do not change anything.
_MARGIN = 0.05
_LONGEST_PATIENCE = 2**20


class Gate:
    """Opens and closes the way to the cache for one version of a model.

    Args:
        model: the model's qualified name.
        version: its version.
        batches: whether it is for batches, which it then counts instead of rows.
        hook: receives `CachePaused` and `CacheResumed`.
        random: returns random numbers from 0 to 1.

    Attributes:
        direct: whether to predict without the cache.
        key_share: the share of calls for which to ask `looks_up`.
        random: returns random numbers from 0 to 1.
    """

    def __init__(
        self, model: str, version: str, *, batches: bool, hook: Hook, random: Callable[[], float]
    ) -> None:
        self._model = model
        self._version = version
        self._batches = batches
        self._hook = hook
        self.random = random
        self.direct = False
        self._scale = self._boost = 1.0
        self._share()
        # How many predictions to watch before closing, and before opening again.
        self._least_patience, self._probes = (32, 8) if batches else (1000, 32)
        self._patience = self._least_patience
        self._model_mean = 0.0
        self._forget()

    def _forget(self) -> None:
        self._seen = 0.0
        self._hits = self._misses = 0.0
        self._hit_seconds = self._miss_seconds = self._model_seconds = 0.0

    def looks_up(self, drawn: float, encode: Callable[[], bytes]) -> bool:
        """Return whether to look up one of the calls of `key_share`.

        Args:
            drawn: its random number, below `key_share`.
            encode: returns the canonical bytes of its input.
        """
        if drawn < self._call_share:
            return True
        try:
            return crc32(encode()) % _ONE_IN == 0
        except Exception as error:  # the input has no key
            reraise_interruption(error)
            return False

    def is_direct(self, encode: Callable[[], bytes]) -> bool:
        """Return whether to make a prediction, or a batch, without the cache.

        Args:
            encode: returns the canonical bytes of its input; of a batch, of its first row.
        """
        if not self.direct:
            return False
        drawn = self.random()
        return drawn >= self.key_share or not self.looks_up(drawn, encode)

    def hit(self, seconds: float) -> None:
        """Count a single hit."""
        self._hits += 1
        self._hit_seconds += seconds
        self._saw(1.0, _AFTER_HIT)

    # Without a lock: a count that is lost does not matter.
    def heard(self, outcome: Outcome) -> None:
        """Count a hit, a miss, or several of them."""
        rows = outcome.rows
        factor = _AFTER_MISS if outcome.kind == "miss" else _AFTER_HIT
        if outcome.kind == "hit":
            self._hits += rows
            self._hit_seconds += outcome.seconds * rows
        else:
            self._misses += rows
            self._miss_seconds += outcome.seconds * rows
            self._model_seconds += outcome.model_seconds * rows
        self._saw(rows / outcome.batch_size if self._batches else rows, factor)

    def _saw(self, amount: float, factor: float) -> None:
        self._seen += amount
        if self.direct:
            self._boost = min(max(1.0, self._boost * factor), 1 / self._scale / _CALL_SHARE)
            self._share()
        if self._seen >= (self._probes if self.direct else self._patience):
            self._seen = 0.0
            self._judge()

    def _judge(self) -> None:
        if self._misses:
            self._model_mean = self._model_seconds / self._misses
        without = (self._hits + self._misses) * self._model_mean
        took = self._hit_seconds + self._miss_seconds
        if not without:
            return
        self._limit_probes()
        if not self.direct and took > without * (1 + _MARGIN):
            # If it opens too early, because few entries exist yet, it waits longer the next time.
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
            self._switch(direct=True)
        elif self.direct and took < without * (1 - _MARGIN):
            self._switch(direct=False)
        else:
            if not self.direct:
                self._patience = self._least_patience
            self._fade()

    def _fade(self) -> None:
        """Let what was long ago count for less."""
        self._hits /= 2
        self._misses /= 2
        self._hit_seconds /= 2
        self._miss_seconds /= 2
        self._model_seconds /= 2

    @property
    def _overhead(self) -> float:
        spent = max(0.0, self._miss_seconds - self._model_seconds)
        return spent / self._misses if self._misses else 0.0

    def _limit_probes(self) -> None:
        if self._overhead:
            lost = _PROBE_SHARE * self._overhead / self._model_mean
            self._scale = min(1.0, _MOST_LOST / lost)

    def _share(self) -> None:
        share = self._scale * self._boost
        self._call_share = min(share * _CALL_SHARE, _MOST_CALLS)
        self.key_share = min(share * _KEY_SHARE, 1.0)

    def _switch(self, *, direct: bool) -> None:
        event = CachePaused if direct else CacheResumed
        hit_ratio = self._hits / (self._hits + self._misses)
        hit = self._hit_seconds / self._hits if self._hits else None
        least = break_even_ratio(self._model_mean, self._overhead, hit)
        self._forget()
        self._boost = 1.0
        self._share()
        self.direct = direct
        self._hook(
            event(self._model, self._version, self._batches, round(hit_ratio, 4), round(least, 4))
        )


class Gates:
    """The gates of one decorator.

    Args:
        hook: receives `CachePaused` and `CacheResumed`.
        random: returns random numbers from 0 to 1.
    """

    def __init__(self, hook: Hook, random: Callable[[], float]) -> None:
        self._hook = hook
        self._random = random
        self._gates: dict[tuple[str, str, bool], Gate] = {}

    def of(self, model: str, version: str, *, batches: bool) -> Gate:
        """Return the gate for a version of a model."""
        gate = self._gates.get((model, version, batches))
        if gate is None:
            made = Gate(model, version, batches=batches, hook=self._hook, random=self._random)
            gate = self._gates.setdefault((model, version, batches), made)
        return gate

    def heard(self, outcome: Outcome) -> None:
        """Count an outcome of a lookup."""
        if outcome.kind in ("hit", "miss") and not outcome.refreshed:
            batches = outcome.batch_size > 1
            self.of(outcome.model, outcome.version, batches=batches).heard(outcome)
