"""The command `model-cache`, for operators and their scripts.

Its dependencies are the extra `cli`, imported when the command runs.
"""

from __future__ import annotations

import os
import sys

_EXTRA = ("typer", "rich", "yaml")


def main() -> None:
    """Run the command with the arguments of this process and exit."""
    try:
        from model_cache.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        message = f'model-cache needs {error.name}: pip install "ml-model-cache[cli]"'
        print(message, file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        # Names in Redis may contain characters that the terminal's encoding lacks.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        app(prog_name="model-cache")
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has closed it; Python would complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
