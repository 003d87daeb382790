"""The commands and their options, and what each exits with."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from model_cache import __version__
from model_cache.cli import shown
from model_cache.cli.checks import check
from model_cache.cli.connection import LOCAL, Connection, key_secret, refuse_embedded
from model_cache.cli.doctor import examine
from model_cache.cli.inspect import look_up, take_inventory
from model_cache.cli.loading import caches_of, import_from_here, load_model, load_service
from model_cache.cli.output import Output, count
from model_cache.cli.purge import plan
from model_cache.cli.requests import Format
from model_cache.cli.warm import Job, warm
from model_cache.config import Config
from model_cache.embedded import embedded_redis
from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.keys import EntryKey, tag_key
from model_cache.purging import delete_all

FOUND_WRONG, USAGE, OUT_OF_REACH, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    help="""Look after a model_cache: see what is in it, empty it, fill it, check its Redis.

    Secrets come from the environment only: MODEL_CACHE_USERNAME, MODEL_CACHE_PASSWORD and
    MODEL_CACHE_KEY_SECRET. Exit codes: 0 fine, 1 something was found wrong or failed, 2 wrong
    usage, 3 Redis is out of reach, 130 interrupted.""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # A traceback with local variables could show a password.
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None,
    typer.Option(
        envvar="REDIS_URL",
        show_default=LOCAL,
        help="Where Redis is: redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://.",
    ),
]
Proxied = Annotated[
    bool, typer.Option("--proxied", help="A proxy such as Twemproxy is in between.")
]
Timeout = Annotated[
    float, typer.Option(min=0.001, max=60.0, help="Seconds that each round trip may take.")
]
Prefix = Annotated[str | None, typer.Option(help="The decorator's prefix.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]


@contextmanager
def _command(*, as_json: bool) -> Iterator[Output]:
    """Yield where to print; turn what may go wrong into a message and an exit code."""
    output = Output(as_json=as_json)
    handler = _Messages(output)
    logger = logging.getLogger("model_cache")
    logger.addHandler(handler)
    try:
        yield output
    except ConfigurationError as error:
        output.say(f"model-cache: {error}")
        raise typer.Exit(USAGE) from None
    except StoreUnavailableError as error:
        output.say(f"model-cache: {error}")
        raise typer.Exit(OUT_OF_REACH) from None
    except BrokenPipeError:  # whoever reads has seen enough
        raise
    except OSError as error:  # a file, or a folder, that can't be written
        output.say(f"model-cache: {error}")
        raise typer.Exit(FOUND_WRONG) from None
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
        self._output.say(f"{record.levelname.lower()}: {record.getMessage()}")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"model-cache {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def inspect(  # noqa: PLR0913, PLR0917 - options
    key: Annotated[str | None, typer.Argument(help="One key, to be decoded.")] = None,
    url: Url = None,
    proxied: Proxied = False,
    timeout: Timeout = 5.0,
    prefix: Prefix = None,
    model: Annotated[str | None, typer.Option(help="Only this model's, by qualified name.")] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="How many entries of each version to look at.")
    ] = 1000,
    keys: Annotated[
        int, typer.Option(min=0, help="How many keys of each version to list, of those looked at.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show the models in a Redis: versions, entries, bytes, time left. Or one key.

    It only reads. Exits with 1 if an entry can't be decoded, or the key is not there.
    """
    with (
        _command(as_json=as_json) as output,
        Connection(url, proxied, timeout).servers() as servers,
    ):
        checking = tag_key(key_secret())
        if key is not None:
            found = look_up(servers, key, timeout, checking)
            if found is None:
                output.say(f"model-cache: there is no entry under {key}")
                raise typer.Exit(FOUND_WRONG)
            output.answer(found, lambda: shown.entry(output, found))
            raise typer.Exit(FOUND_WRONG if found.entry.problem else 0)

        def wanted(entry: EntryKey) -> bool:
            return prefix in (None, entry.prefix) and model in (None, entry.qualified_name)

        with output.progress("listing keys", None) as tell:
            inventory = take_inventory(
                servers, timeout, wanted, sample=sample, keys=keys, tag_key=checking, tell=tell
            )
        output.answer(inventory, lambda: shown.inventory(output, inventory))
        if any(each.undecodable for each in inventory.models):
            raise typer.Exit(FOUND_WRONG)


@app.command()
def purge(  # noqa: PLR0913, PLR0917 - options
    model: Annotated[str, typer.Option(help="The model's qualified name.")],
    version: Annotated[
        str | None, typer.Option("--version", help="Only this version; all, if not given.")
    ] = None,
    url: Url = None,
    proxied: Proxied = False,
    timeout: Timeout = 5.0,
    prefix: Prefix = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a model's entries, and nothing else.

    Without --prefix, those that have none. Running services go on writing new ones. Exits with 1
    if you answer no.
    """
    with (
        _command(as_json=as_json) as output,
        Connection(url, proxied, timeout).store() as store,
    ):
        planned = plan(store, timeout, model, version, prefix)
        shown.plan(output, planned)
        deleted = 0
        if planned.keys and not dry_run:
            if not yes:
                _ask(output)
            with output.progress("deleting", len(planned.keys)) as tell:
                deleted = delete_all(store, planned.keys, timeout, tell)
        answer = {
            "prefix": prefix,
            "model": model,
            "versions": planned.versions,
            "dry_run": dry_run,
            "deleted": deleted,
        }
        output.answer(answer, lambda: shown.purged(output, planned, deleted, dry_run=dry_run))


def _ask(output: Output) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes", "nobody can be asked here; give --yes, or --dry-run")
    if not typer.confirm("Delete them?", err=True):
        output.say("nothing was deleted")
        raise typer.Exit(FOUND_WRONG)


@app.command(name="warm")
def warm_command(  # noqa: PLR0913, PLR0917 - options
    requests: Annotated[
        str, typer.Option(help="JSON Lines or CSV with a header, a request a line; - for stdin.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="package.module:name of a model's class, of a model, or of a cached one."
        ),
    ] = None,
    options: Annotated[
        Path | None, typer.Option(help="YAML mapping of RedisCachingDecorator's options.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A rest_model_service's YAML, instead of --options.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Where Redis is, if not where the options or REDIS_URL say."),
    ] = None,
    timeout: Timeout = 5.0,
    prefix: Prefix = None,
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl or csv, if the name does not tell.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Predictions at once.")] = 1,
    rejected: Annotated[
        Path | None, typer.Option(help="Where bad lines go; <requests>.rejected.jsonl.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin at the first line, whatever was done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fill the cache: have a model predict the requests in a file.

    An interrupted run goes on where it stopped. Exits with 1 if a request could not be predicted,
    or its prediction not be kept; with 3, progress kept, if Redis takes no more.
    """
    with _command(as_json=as_json) as output, contextlib.redirect_stdout(sys.stderr):
        changes: dict[str, Any] = {"timeout": timeout}
        changes |= {"url": url} if url is not None else {}
        changes |= {"prefix": prefix} if prefix is not None else {}
        source, kind = _source(requests, form)
        # A pipe has no folder of its own.
        beside = source if source is not None and source.is_file() else Path("requests")
        job = Job(
            model=_load(model, options, config, changes),
            source=source,
            form=kind,
            rejected=rejected or beside.with_name(beside.name + ".rejected.jsonl"),
            threads=threads,
            restart=restart,
        )
        total = job.source.stat().st_size if job.source and job.source.is_file() else None
        with _warming(output, total) as tell:
            report = warm(job, output.say, tell)
    output.answer(report, lambda: shown.warmed(output, report))
    raise typer.Exit(0 if report.is_complete else FOUND_WRONG)


def _load(
    model: str | None, options: Path | None, config: Path | None, changes: dict[str, Any]
) -> Any:
    import_from_here()
    if config is not None:
        if options is not None:
            raise ConfigurationError("--options", "excludes --config: give the one or the other")
        loaded = load_service(config, model, changes)
    elif model is None:
        raise ConfigurationError("--model", "is missing; give it, or a service's --config")
    else:
        loaded = load_model(model, options, changes)
    for cache in caches_of(loaded):
        settings: Config = cache._config
        if not settings.enabled:
            raise ConfigurationError("enabled", "the cache is turned off, so it can't be filled")
        refuse_embedded(settings)
    return loaded


def _source(requests: str, form: str | None) -> tuple[Path | None, Format]:
    if form is None:
        form = "csv" if requests.lower().endswith(".csv") else "jsonl"
    if form not in ("jsonl", "csv"):
        raise ConfigurationError("--format", f"{form!r} is not 'jsonl' or 'csv'")
    return None if requests == "-" else Path(requests), "csv" if form == "csv" else "jsonl"


@contextmanager
def _warming(output: Output, total: int | None) -> Iterator[Callable[[int, int], None]]:
    started, first, lines = time.monotonic(), None, 0

    def unit() -> str:
        rate = (lines - (first or 0)) / max(time.monotonic() - started, 1e-3)
        return f"{count(lines, 'line', 'lines')}, {rate:,.0f} a second"

    with output.progress("warming", total, unit) as tell:

        def both(size: int, line: int) -> None:
            nonlocal first, lines
            first, lines = line if first is None else first, line
            tell(size)

        yield both


@app.command()
def doctor(
    url: Url = None,
    proxied: Proxied = False,
    timeout: Timeout = 5.0,
    decorator_timeout: Annotated[
        float, typer.Option(min=0.001, max=60.0, help="The decorator's timeout, in seconds.")
    ] = 0.1,
    prefix: Prefix = None,
    model: Annotated[
        str | None, typer.Option(help="Try permissions as for this model, by qualified name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a Redis: version, memory policy, latency, permissions, clock; say what to change.

    It writes one small entry and removes it. Exits with 1 if there is a problem.
    """
    connection = Connection(url, proxied, timeout)
    with _command(as_json=as_json) as output, connection.servers() as servers:
        in_cluster = bool(connection.config().endpoint.cluster)
        findings = []
        for place, server in servers.items():
            with output.progress(f"asking {place}", None) as tell:
                facts = examine(
                    place,
                    server,
                    timeout,
                    in_cluster=in_cluster,
                    model=model,
                    prefix=prefix,
                    tell=tell,
                )
            findings += check(facts, decorator_timeout)
        output.answer({"findings": findings}, lambda: shown.findings(output, findings))
        if any(each.verdict == "problem" for each in findings):
            raise typer.Exit(FOUND_WRONG)


@app.command()
def serve(as_json: AsJson = False) -> None:
    """Run a Redis of its own for trying things out, until Ctrl-C, and print its url.

    It keeps nothing on disk, and takes the server that the extra "embedded" brings, or one on
    PATH. The url holds the password, which is another one each time.
    """
    with _command(as_json=as_json) as output, embedded_redis(tcp=True) as url:
        output.answer({"url": url}, lambda: output.line(url))
        sys.stdout.flush()
        output.say("export REDIS_URL to that; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
