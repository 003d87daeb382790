"""The command `model-cache`: for people who look after a cache, and for their scripts.

What it needs on top of the library is an extra, imported when the command runs.
"""

from __future__ import annotations

import os
import sys

_EXTRA = ("typer", "rich", "yaml")


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    try:
        from model_cache.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        message = f'model-cache needs {error.name}: pip install "ml-model-cache[cli]"'
        print(message, file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        # Names in Redis may hold what the terminal's encoding has not.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        app(prog_name="model-cache")
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads has seen enough; Python would complain at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
