"""The commands, and their exit codes."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import time
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from ml_base.ml_model import MLModel

from model_cache import __version__
from model_cache.advisor import advise as take_advice
from model_cache.advisor.request_file import Format, open_requests
from model_cache.cli import options, rendering
from model_cache.cli.checks import Finding, check
from model_cache.cli.doctor import examine, scratch_namespace
from model_cache.cli.inventory import Reader
from model_cache.cli.loading import import_from_here, load, load_plain
from model_cache.cli.output import Output
from model_cache.cli.purge import Plan, Selection, begin_generations, delete, plan
from model_cache.cli.rejected import RejectedFile
from model_cache.cli.running import FAILED, INTERRUPTED, running
from model_cache.cli.statistics import collect
from model_cache.cli.target import Target
from model_cache.cli.wanted import EVERYTHING, Wanted
from model_cache.cli.warm import Report, warm
from model_cache.embedded import embedded_server
from model_cache.errors import ConfigurationError, said_by
from model_cache.keys.key import tag_key
from model_cache.protocols import Store
from model_cache.stores.purging import unless_full
from model_cache.words import count

_WATCH_SECONDS = 2.0

app = typer.Typer(
    help="""Inspect, purge and warm a cache, check its Redis, and see whether it pays.

    Secrets come from the environment only: MODEL_CACHE_USERNAME, MODEL_CACHE_PASSWORD (or
    MODEL_CACHE_PASSWORD_FILE), MODEL_CACHE_KEY_SECRET and MODEL_CACHE_ENCRYPTION_KEY. Exit codes: 0
    success, 1 a problem was found or something failed, 2 invalid usage, 3 Redis unavailable, 130
    interrupted.""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # A traceback with local variables could show a password.
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"model-cache {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def inspect(
    key: options.Key = None,
    url: options.Url = None,
    proxied: options.Proxied = False,
    timeout: options.Timeout = 5.0,
    prefix: options.Prefix = None,
    model: options.OnlyModel = None,
    sample: options.Sample = 1000,
    keys: options.Keys = 0,
    as_json: options.AsJson = False,
) -> None:
    """Show the models in a Redis: versions, entries, memory, TTLs. Or decode one key.

    It only reads. Exits with 1 if an entry can't be decoded, or the key does not exist.
    """
    target, wanted = Target(url, proxied, timeout), Wanted(prefix, model, None)
    with running(as_json=as_json) as output, target.servers() as servers:
        config = target.config()
        reader = Reader(servers, timeout, tag_key(config.key_secret), config.cipher())
        if key is not None:
            _inspect_key(output, reader, key)
            return
        with output.progress("listing keys", None) as tell:
            found = reader.take_inventory(
                lambda entry: wanted.has(*entry[:3]), sample=sample, keys=keys, tell=tell
            )
        output.answer(found, lambda: rendering.inventory(output, found))
        if wanted.is_limited and not found.models:
            there = reader.take_inventory(lambda _: True, sample=1).models
            output.say(wanted.instead(there))
        if any(each.undecodable for each in found.models):
            raise typer.Exit(FAILED)


def _inspect_key(output: Output, reader: Reader, key: str) -> None:
    found = reader.look_up(key)
    if found is None:
        output.say(f"model-cache: no entry under {key}")
        raise typer.Exit(FAILED)
    output.answer(found, lambda: rendering.entry(output, found))
    raise typer.Exit(FAILED if found.entry.problem else 0)


@app.command()
def stats(
    url: options.Url = None,
    proxied: options.Proxied = False,
    timeout: options.Timeout = 5.0,
    prefix: options.Prefix = None,
    model: options.OnlyModel = None,
    version: options.OnlyVersion = None,
    price_per_hour: options.Price = None,
    watch: options.Watch = False,
    as_json: options.AsJson = False,
) -> None:
    """Show hits, time saved, errors, entries and memory of each model in the whole fleet.

    It only reads. The counts include processes that have ended. Behind a proxy, give --model and
    --version.
    """
    target, wanted = Target(url, proxied, timeout), Wanted(prefix, model, version)
    with (
        running(as_json=as_json) as output,
        target.servers() as servers,
        target.store() as store,
    ):
        if watch and as_json:
            raise ConfigurationError("--watch", "can't be combined with --json")
        with contextlib.suppress(KeyboardInterrupt) if watch else nullcontext():
            while True:
                found = collect(servers, store, timeout, wanted)
                if watch:
                    output.clear()
                answer = {"models": [each.answer(price_per_hour) for each in found]}
                show = functools.partial(rendering.statistics, output, found, price_per_hour)
                output.answer(answer, show)
                if not watch:
                    break
                time.sleep(_WATCH_SECONDS)
        if wanted.is_limited and not found:
            output.say(wanted.instead(collect(servers, store, timeout, EVERYTHING)))


@app.command()
def export(
    url: options.Url = None,
    timeout: options.Timeout = 5.0,
    host: options.Host = "127.0.0.1",
    port: options.Port = 9721,
    every: options.Every = 60.0,
    as_json: options.AsJson = False,
) -> None:
    """Serve entries and memory of each model, and evictions, as Prometheus metrics.

    It only reads, runs until Ctrl-C or SIGTERM, and continues while Redis is down.
    """
    with running(as_json=as_json) as output:
        from model_cache.cli.exporter import Exporter, serving

        # The main process of a container has to handle SIGTERM, which it would ignore.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        exporter = Exporter(Target(url, proxied=False, timeout=timeout), output.say)
        exporter.read()
        with serving(exporter, host, port) as metrics, contextlib.suppress(KeyboardInterrupt):
            output.answer({"url": metrics}, lambda: output.line(metrics))
            sys.stdout.flush()
            while True:
                time.sleep(every)
                exporter.read()


@app.command()
def purge(  # noqa: PLR0913, PLR0917 - options
    model: options.PurgedModel,
    version: options.Version = None,
    all_but: options.AllBut = None,
    url: options.Url = None,
    proxied: options.Proxied = False,
    timeout: options.Timeout = 5.0,
    prefix: options.Prefix = None,
    all_prefixes: options.AllPrefixes = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Delete the entries of a model.

    Without --prefix or --all-prefixes, only entries without a prefix. Services that are running
    continue to write new entries. Exits with 1 if you do not confirm.
    """
    target = Target(url, proxied, timeout)
    with running(as_json=as_json) as output, target.store() as store:
        selection = Selection(model, prefix, all_prefixes, version, all_but or ())
        planned = plan(store, timeout, selection)
        rendering.plan(output, selection, planned)
        deleted = 0
        if planned.keys and not dry_run:
            if not yes:
                _confirm(output)
            deleted = _delete(output, store, planned, model, timeout)
        answer = {
            "model": model,
            "entries": planned.groups,
            "dry_run": dry_run,
            "deleted": deleted,
        }
        output.answer(answer, lambda: rendering.purged(output, planned, deleted, dry_run=dry_run))


def _delete(output: Output, store: Store, planned: Plan, model: str, timeout: float) -> int:
    with output.progress("deleting", len(planned.keys)) as tell:
        with unless_full():
            # No service stores what it has computed by now ...
            begin_generations(store, planned, model, timeout)
        deleted = delete(store, planned.keys, timeout, output.say, tell)
    # ... or serves what it has read by now.
    begin_generations(store, planned, model, timeout)
    return deleted


def _confirm(output: Output) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes", "stdin is not a terminal; give --yes or --dry-run")
    if not typer.confirm("Delete them?", err=True):
        output.say("nothing was deleted")
        raise typer.Exit(FAILED)


@app.command(name="warm")
def warm_command(  # noqa: PLR0913, PLR0917 - options
    requests: options.Requests,
    model: options.WarmedModel = None,
    options_file: options.DecoratorOptions = None,
    config: options.ServiceConfig = None,
    url: options.UrlInstead = None,
    timeout: options.Timeout = 5.0,
    prefix: options.Prefix = None,
    form: options.RequestFormat = None,
    threads: options.Threads = 1,
    rejected: options.Rejected = None,
    as_json: options.AsJson = False,
) -> None:
    """Fill the cache with a model's predictions for the requests in a file.

    If it is interrupted, run it again: cached predictions are not computed again. Exits with 1 if
    a request could not be predicted or a prediction could not be stored, and with 3 if Redis fails.
    """
    given = {"url": url, "prefix": prefix}
    changes = {"timeout": timeout, **{k: v for k, v in given.items() if v is not None}}
    with running(as_json=as_json) as output, contextlib.redirect_stdout(sys.stderr):
        import_from_here()
        loaded = load(model, options_file, config, changes)
        report = _warm(output, loaded, requests, form, rejected, threads)
    output.answer(report, lambda: rendering.warmed(output, report))
    raise typer.Exit(0 if report.is_complete else FAILED)


def _opened(requests: Path) -> AbstractContextManager[BinaryIO]:
    if requests == Path("-"):
        return nullcontext(sys.stdin.buffer)
    try:
        return requests.open("rb")
    except OSError as error:
        problem = f"can't read {str(requests)!r}: {said_by(error)}"
        raise ConfigurationError("--requests", problem) from error


def _warm(
    output: Output,
    model: MLModel,
    path: Path,
    form: Format | None,
    rejected: Path | None,
    threads: int,
) -> Report:
    if form is None:
        form = "csv" if path.suffix.lower() in (".csv", ".tsv") else "jsonl"
    source = path if path.is_file() else Path("requests")  # a pipe has no folder
    default = source.with_name(f"{source.name}.rejected.jsonl")
    total = path.stat().st_size if path.is_file() else None
    with (
        _opened(path) as stream,
        closing(RejectedFile(rejected or default)) as file,
    ):
        requests = open_requests(stream, form, model.input_schema)
        if requests.unknown_columns:
            columns = ", ".join(map(repr, requests.unknown_columns))
            output.say(f"ignoring columns that are not in the input schema: {columns}")
        with output.progress("warming", total) as tell:
            return warm(
                model,
                requests,
                file,
                threads=threads,
                say=output.say,
                tell=lambda size, line: tell(size, count(line, "line")),
            )


@app.command(name="advise")
def advise_command(
    model: options.AdvisedModel,
    requests: options.Log,
    budget: options.Budget = "60s",
    tolerance: options.Tolerance = None,
    price_per_hour: options.Price = None,
    time_column: options.TimeColumn = None,
    log_format: options.LogFormats = None,
    report: options.ReportFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Say whether a cache would pay for a model, from a log of its requests.

    It reads the log, and measures the model and a server of its own. Ctrl-C ends it with the advice
    so far, and exit code 130.
    """
    from model_cache.cli import advise

    with running(as_json=as_json) as output:
        with contextlib.redirect_stdout(sys.stderr):
            import_from_here()
            if report is not None:
                advise.check_report(report)
            with advise.Stages(output) as stages:
                advice = take_advice(
                    load_plain(model), requests, budget=advise.seconds(budget),
                    tolerance=tolerance, price_per_hour=price_per_hour, time_column=time_column,
                    log_format=log_format, tell=stages,
                )  # fmt: skip
            if report is not None:
                advise.write_report(report, advice)
                output.say(f"report: {report}")
        output.answer(advice.to_dict(), lambda: advise.show(output, advice))
    raise typer.Exit(0 if advice.complete else INTERRUPTED)


@app.command()
def doctor(
    url: options.Url = None,
    proxied: options.Proxied = False,
    timeout: options.Timeout = 5.0,
    decorator_timeout: options.DecoratorTimeout = 0.1,
    prefix: options.Prefix = None,
    model: options.CheckedModel = None,
    as_json: options.AsJson = False,
) -> None:
    """Check a Redis, and recommend changes.

    It looks at version, role, memory policy, persistence, connections, clock, permissions and
    latency. It writes one small entry and deletes it. Exits with 1 if there is a problem.
    """
    target = Target(url, proxied, timeout)
    with running(as_json=as_json) as output, target.servers() as servers:
        in_cluster = bool(target.config().endpoint.cluster)
        findings: list[Finding] = []
        for address, server in servers.items():
            with output.progress(f"checking {address}", None) as tell:
                facts = examine(
                    address, server, timeout, scratch_namespace(prefix, model),
                    in_cluster=in_cluster, tell=tell,
                )  # fmt: skip
            findings += check(facts, decorator_timeout)
        output.answer({"findings": findings}, lambda: rendering.findings(output, findings))
        if any(each.verdict == "problem" for each in findings):
            raise typer.Exit(FAILED)


@app.command()
def serve(port: options.Port = 0, as_json: options.AsJson = False) -> None:
    """Run a temporary Redis for trying things out, and print its url.

    It runs until Ctrl-C, on 127.0.0.1 with a random password, and keeps nothing on disk. It needs
    the extra "embedded", or a Redis or Valkey server on PATH. Exits with 1 if the port is in use,
    or if the server ends by itself.
    """
    with (
        running(as_json=as_json) as output,
        embedded_server(tcp=True, port=port) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        output.answer({"url": server.url}, lambda: output.line(server.url))
        sys.stdout.flush()
        output.say("export REDIS_URL with this url to use it; press Ctrl-C to stop it")
        output.say_lines(f"model-cache: the server has ended: {server.wait_until_end()}")
        raise typer.Exit(FAILED)
