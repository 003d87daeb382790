"""The time to write and read an entry, and its size, by serder and compressor.

The baseline is the article's code: the standard library's json with `model_dump`, and the schema
called with the result of `json.loads`. Writing is unfair to the library: it decodes each entry and
compares the result with the prediction, which the baseline does not. A compressor is used only
where it makes the entry smaller; otherwise its row shows the uncompressed entry, and the time
includes the attempt. The 1,000 floats have random digits, the worst case for a compressor; the 20
fields contain the same text four times, close to the best case. "Encrypted" is with
`encryption_key`, "tagged" with `integrity`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel, create_model

from benchmarks.environment import environment, options, show
from benchmarks.tables import Table
from benchmarks.timing import Measured, Variant, in_turn
from model_cache import ConfigurationError
from model_cache.entries.codec import Codec
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.encryption import Cipher
from model_cache.entries.serders import JSON, MESSAGE_PACK
from model_cache.keys.key import encryption_key
from model_cache.protocols import Compressor

BASELINE = "json and model_dump"
KEY = b"benchmark/model/0.1.0/AAAAAAAAAAAAAAAAAAAAAA"


class Small(BaseModel):
    """One number."""

    charges: float


class Large(BaseModel):
    """An embedding, for example."""

    values: list[float]


_KINDS: tuple[tuple[type, Any], ...] = (
    (float, 0.8275862068965517),
    (int, 20_317),
    (str, "approved after a manual check of the documents"),
    (bool, True),
    (list[str], ["income", "age", "region"]),
)
Medium: type[BaseModel] = create_model(
    "Medium",
    **{f"field_{n}": _KINDS[n % len(_KINDS)] for n in range(20)},  # type: ignore[call-overload]
)


@dataclass(frozen=True)
class Row:
    """A codec and a size of prediction; times in microseconds, the size in bytes."""

    output: str
    name: str
    write: Measured
    read: Measured
    size: int


def outputs() -> dict[str, BaseModel]:
    """Return a prediction of each size, by name."""
    rng = random.Random(1)
    filled = {name: field.default for name, field in Medium.model_fields.items()}
    return {
        "small: one float": Small(charges=9612.64),
        "medium: 20 fields": Medium(**filled),
        "large: 1,000 floats": Large(values=[rng.random() for _ in range(1_000)]),
    }


def codecs(schema: type[BaseModel]) -> dict[str, Codec]:
    """Return the library's codecs by name, without compressors that are not installed."""
    ours = {
        f"{serder.name}, {compressor.name}" if compressor else serder.name: Codec(
            schema, serder=serder, compressor=compressor
        )
        for serder in (JSON, MESSAGE_PACK)
        for compressor in (None, *_installed())
    }
    cipher = Cipher([encryption_key("a secret for the benchmark")])
    return {
        **ours,
        "JSON, tagged": Codec(schema, integrity=True),
        "JSON, encrypted": Codec(schema, cipher=cipher),
    }


def _installed() -> list[Compressor]:
    found = []
    for name in ("snappy", "zstd", "lz4"):
        compressor = COMPRESSORS.named(name)
        try:
            compressor.compress(b"")
        except ConfigurationError:  # the extra is not installed
            continue
        found.append(compressor)
    return found


def measure(output: str, prediction: BaseModel, calls: int) -> list[Row]:
    schema = type(prediction)
    entries = {BASELINE: _dump(prediction)}
    writes = [Variant(BASELINE, _dump, [prediction] * calls)]
    reads = [Variant(BASELINE, partial(_load, schema), [entries[BASELINE]] * calls)]
    for name, codec in codecs(schema).items():
        entries[name] = codec.encode(KEY, prediction)
        if codec.decode(KEY, entries[name]) != prediction:
            raise RuntimeError(f"{name} does not round-trip")
        writes.append(Variant(name, partial(codec.encode, KEY), [prediction] * calls))
        reads.append(Variant(name, partial(codec.decode, KEY), [entries[name]] * calls))
    written, read = in_turn(*writes), in_turn(*reads)
    return [
        Row(output, name, written[name], read[name], len(entry)) for name, entry in entries.items()
    ]


def _load(schema: type[BaseModel], entry: bytes) -> BaseModel:
    return schema(**json.loads(entry))


def _dump(prediction: BaseModel) -> bytes:
    return json.dumps(prediction.model_dump()).encode()


def main() -> None:
    chosen = options("serders", __doc__, rounds=10, count=200)
    found = environment(None, "python-snappy", "zstandard", "lz4")
    rows = [
        row
        for output, prediction in outputs().items()
        for row in measure(output, prediction, chosen.rounds * chosen.count)
    ]
    tables = [_table(output, [row for row in rows if row.output == output]) for output in outputs()]
    show(chosen, __doc__, found, tables, charts=_charts(rows), rows=rows)


def _charts(rows: list[Row]) -> dict[str, dict[str, float]]:
    values: dict[str, Callable[[Row], float]] = {
        "bytes": lambda row: row.size,
        "µs to read": lambda row: row.read.wall,
        "µs to write": lambda row: row.write.wall,
    }
    return {
        f"{output}: {what}": {
            row.name if row.name == BASELINE else f"model_cache, {row.name}": value(row)
            for row in rows
            if row.output == output
        }
        for output in outputs()
        for what, value in values.items()
    }


def _table(title: str, rows: list[Row]) -> Table:
    columns = {
        f"{what}{part}": format_
        for what in ("write", "read")
        for part, format_ in (("", ".1f"), (", p95", ".1f"), (", CPU", ".1f"), (" / json's", ".2f"))
    }
    made = Table(f"{title}, µs a call", "", {**columns, "bytes": ",d"})
    for row in rows:
        write, read = (
            (one.wall, one.p95, one.cpu, one.wall / base.wall)
            for one, base in ((row.write, rows[0].write), (row.read, rows[0].read))
        )
        made.add(row.name, *write, *read, row.size)
    return made


if __name__ == "__main__":
    main()
