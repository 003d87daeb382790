"""Rewrite the golden vectors after a deliberate change of format: python -m tests.golden.write.

Never part of a test run. A change of the keys' form needs a new `FORMAT` in
`model_cache.keys.canonical`; a change of the entries' a new version of the envelope, and code that
still reads the old one. Read the difference before it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.golden_cases import entries, fingerprints, keys
from tests.golden_frames import forms

FOLDER = Path(__file__).parent


def write(name: str, vectors: Any) -> None:
    path = FOLDER / name
    path.write_text(json.dumps(vectors, indent=1) + "\n", encoding="ascii")
    print(f"{path}: {len(vectors)} cases")


if __name__ == "__main__":
    write("keys.json", keys())
    write("entries.json", entries())
    write("fingerprints.json", fingerprints())
    write("frames.json", forms())
