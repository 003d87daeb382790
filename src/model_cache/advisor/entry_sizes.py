"""The memory of an entry, measured: entries are written to a server that reports what it uses."""

from __future__ import annotations

import binascii
import itertools
import random
import re
import statistics
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing

from ml_base.ml_model import MLModel

from model_cache.advisor.costs import Measured, NotMeasuredError
from model_cache.advisor.findings import EntrySizes
from model_cache.binding import Binding
from model_cache.decorator import option_defaults
from model_cache.entries.codec import EntryRefusedError
from model_cache.keys.key import TO_BASE64URL
from model_cache.options.config import Config
from model_cache.prediction.near import OVERHEAD
from model_cache.stores.opening import administered, compose
from model_cache.stores.packing import LARGEST
from model_cache.stores.server import RedisStore
from model_cache.stores.url import parse_url

_FEWEST, _MOST = 2_000, 50_000
_AT_ONCE = 1_000
_TIMEOUT = 10.0
_TTL = 30 * 86_400 * 1000


def measure_sizes(
    model: MLModel, measured: Measured, expected: float, url: str, chance: random.Random
) -> EntrySizes:
    """Return the memory of entries.

    Args:
        model: the model.
        measured: inputs from the log, and the model's predictions for them.
        expected: how many entries there would be: hash tables grow in steps.
        url: a server, which is emptied.
        chance: makes the keys.

    Raises:
        NotMeasuredError: the predictions can't be stored.
    """
    count = int(min(_MOST, max(_FEWEST, expected)))
    plain, packed = (_Writer(model, layout, count, url) for layout in ("plain", "packed"))
    entries, small = plain.entries(measured), packed.entries(measured)
    if not entries:
        raise NotMeasuredError("the model's predictions can't be stored")
    (server,) = administered(parse_url("url", url), _TIMEOUT).values()
    with closing(server):
        _flush(server)
        fits = max(map(len, small), default=LARGEST + 1) <= LARGEST
        return EntrySizes(
            server=_name(server),
            empty=_used(server),
            plain=plain.size(server, entries, None, chance),
            plain_ttl=plain.size(server, entries, _TTL, chance),
            packed=packed.size(server, small, _TTL, chance) if fits else None,
            near=_mean_size([*map(plain.canonical, measured.inputs)])
            + _mean_size(entries)
            + OVERHEAD,
            entries=count,
        )


def _mean_size(values: Sequence[bytes]) -> float:
    return statistics.fmean(map(len, values))


class _Writer:
    """Writes entries as a cache with one layout does."""

    def __init__(self, model: MLModel, layout: str, count: int, url: str) -> None:
        options = {**option_defaults(), "layout": layout}
        if layout == "packed":
            options["expected_entries"] = count
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._binding = Binding(model, Config.parse(options))
        self._count = count
        self._store = compose(
            parse_url("url", url),
            lambda _: None,
            timeout=_TIMEOUT,
            expected_entries=options["expected_entries"],
        )
        self.canonical = self._binding.canonical

    def entries(self, measured: Measured) -> list[bytes]:
        """Return the entries of predictions that can be stored."""
        found = []
        for data, prediction in zip(measured.inputs, measured.predictions, strict=True):
            key = self._binding.keys.key_of(self.canonical(data))
            try:
                found.append(self._binding.codec.encode(key, prediction))
            except EntryRefusedError:
                continue
        return found

    def size(
        self, server: RedisStore, entries: list[bytes], ttl: int | None, chance: random.Random
    ) -> float:
        """Return the bytes of one entry under random keys."""
        _flush(server)
        before = _used(server)
        writes = zip(self._keys(chance), itertools.cycle(entries), itertools.repeat(ttl))
        left = self._count
        while left > 0:
            self._store.set_many([*itertools.islice(writes, min(left, _AT_ONCE))], _TIMEOUT)
            left -= _AT_ONCE
        self._store.close()
        return (_used(server) - before) / self._count

    def _keys(self, chance: random.Random) -> Iterator[bytes]:
        while True:
            digest = binascii.b2a_base64(chance.randbytes(16), newline=False)
            yield self._binding.namespace.raw + digest.translate(TO_BASE64URL, b"=")


def _flush(server: RedisStore) -> None:
    server.execute(_TIMEOUT, b"FLUSHALL", b"SYNC")


def _info(server: RedisStore, section: bytes) -> str:
    return str(server.execute(_TIMEOUT, b"INFO", section).decode("utf-8", "replace"))


def _used(server: RedisStore) -> int:
    found = re.search(r"^used_memory:(\d+)", _info(server, b"memory"), re.M)
    assert found is not None
    return int(found[1])


def _name(server: RedisStore) -> str:
    found = dict(re.findall(r"^(\w+_version):(\S+)", _info(server, b"server"), re.M))
    if "valkey_version" in found:
        return f"Valkey {found['valkey_version']}"
    return f"Redis {found.get('redis_version', '')}".strip()
