"""Running a command: errors become a message and an exit code, and warnings are printed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from model_cache.cli.output import Output
from model_cache.cli.permissions import with_rule
from model_cache.errors import ConfigurationError, StoreUnavailableError, said_by

FAILED, USAGE, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 130

# The arguments of functions behind the commands, by what they are called on the command line.
_OPTIONS = {
    "requests": "--requests",
    "budget": "--budget",
    "tolerance": "--tolerance",
    "price_per_hour": "--price-per-hour",
    "time_column": "--time-column",
    "log_format": "--format",
}


@contextmanager
def running(*, as_json: bool) -> Iterator[Output]:
    """Yield the output; turn errors into a message and an exit code."""
    output = Output(as_json=as_json)
    handler = _Messages(output)
    logger = logging.getLogger("model_cache")
    logger.addHandler(handler)
    try:
        yield output
    except ConfigurationError as error:
        option = _OPTIONS.get(error.option, error.option)
        output.say(f"model-cache: {option}: {error.problem}")
        raise typer.Exit(USAGE) from None
    except StoreUnavailableError as error:
        output.say_lines(f"model-cache: {with_rule(str(error))}")
        raise typer.Exit(UNAVAILABLE) from None
    except BrokenPipeError:  # the reader of stdout has closed it
        raise
    except OSError as error:  # a file that can't be written
        place = f"{error.filename}: " if error.filename else ""
        output.say(f"model-cache: {place}{said_by(error)}")
        raise typer.Exit(FAILED) from None
    except (KeyboardInterrupt, typer.Abort):
        output.say("model-cache: interrupted")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        logger.removeHandler(handler)


class _Messages(logging.Handler):
    """Prints what the decorators log."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.say(f"{record.levelname.lower()}: {with_rule(record.getMessage())}")
