"""The answers of the commands, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model_cache.cli.checks import Finding
from model_cache.cli.inspect import Inventory, ModelEntries, OneEntry, TimesLeft
from model_cache.cli.output import Output, count, durations, size
from model_cache.cli.purge import Plan
from model_cache.cli.warm import Report

_VERDICTS = {"ok": "ok", "note": "note", "problem": "PROBLEM", "unknown": "?"}


def inventory(output: Output, found: Inventory) -> None:
    """Show which models there are."""
    if found.models:
        columns = ["model", "version", "prefix", ">entries", ">memory", ">each"]
        output.table([*columns, "ttl left", "written with"], map(_row, found.models))
        output.line("ttl left: least / median / most")
    else:
        output.line("no entries")
    if any(each.looked_at < each.entries for each in found.models):
        at_most = max(each.looked_at for each in found.models)
        output.line(
            f"Entries are counted; the rest is estimated from a sample of {at_most:,} of each "
            "version at most (--sample)."
        )
    for each in found.models:
        for problem, number in sorted(each.problems.items()):
            entries = count(number, "entry", "entries")
            output.line(f"{each.model} {each.version}: {entries} can't be decoded: {problem}")
        if each.tags.get("wrong"):
            output.line(
                f"{each.model} {each.version}: {each.tags['wrong']:,} tags are wrong, or made with "
                "another key_secret than the one in MODEL_CACHE_KEY_SECRET"
            )
    for each in found.models:
        for key in each.keys:
            output.line(key)
    if found.foreign:
        output.line(f"{count(found.foreign, 'key is', 'keys are')} not model_cache's.")


def _row(found: ModelEntries) -> Sequence[object]:
    each = found.bytes / found.entries if found.bytes is not None and found.entries else None
    return (
        found.model,
        found.version,
        found.prefix or "-",
        f"{found.entries:,}",
        size(found.bytes),
        size(each),
        _times(found.ttl),
        _mix(found) or "?",
    )


def _times(ttl: TimesLeft) -> str:
    if not ttl.known:
        return "?"
    if ttl.least is None or ttl.median is None or ttl.most is None:
        return "none"
    times = durations(ttl.least, ttl.median, ttl.most)
    return f"{times}; {ttl.without_ttl:.0%} without" if ttl.without_ttl else times


def _mix(found: ModelEntries) -> str:
    compressors = {name: number for name, number in found.compressors.items() if name != "none"}
    envelopes = {name: number for name, number in found.forms.items() if name == "envelope"}
    total = found.looked_at - found.undecodable
    return ", ".join(
        name if number == total else f"{name} {number / total:.0%}"
        for mix in (found.serders, compressors, envelopes)
        for name, number in sorted(mix.items(), key=lambda each: -each[1])
    )


def entry(output: Output, found: OneEntry) -> None:
    """Show one entry."""
    entry = found.entry
    ttl = "?" if found.ttl_ms == "unknown" else durations(found.ttl_ms or 0)
    facts: Mapping[str, object] = {
        "model": found.model,
        "version": found.version,
        "prefix": found.prefix or "-",
        "digest": found.digest,
        "value": f"{found.value_bytes:,} bytes",
        "memory": size(found.bytes),
        "ttl left": "none" if found.ttl_ms is None else ttl,
        "form": entry.form or "-",
        "serder": entry.serder or "-",
        "compressor": entry.compressor or "-",
        "tag": entry.tag,
        "stale": "yes" if found.is_stale else "no",
    }
    for name, fact in facts.items():
        output.line(f"{name:<12}{fact}")
    if entry.problem:
        output.line(f"{'problem':<12}{entry.problem}")
    else:
        output.json(entry.value)


def plan(output: Output, planned: Plan) -> None:
    """Say what a purge would delete."""
    where = f" under prefix {planned.prefix}" if planned.prefix is not None else " without a prefix"
    entries = count(len(planned.keys), "entry", "entries")
    output.say(f"{planned.model}{where}: {entries}")
    for version, number in planned.versions.items():
        output.say(f"  version {version}: {count(number, 'entry', 'entries')}")
    if not planned.keys:
        output.say(f"{planned.hint}; `model-cache inspect` shows what there is")


def purged(output: Output, planned: Plan, deleted: int, *, dry_run: bool) -> None:
    """Show what a purge has deleted."""
    if dry_run:
        output.line(f"would delete {count(len(planned.keys), 'entry', 'entries')}")
    else:
        output.line(f"deleted {count(deleted, 'entry', 'entries')}")


def warmed(output: Output, report: Report) -> None:
    """Show what warming has come to."""
    output.line(f"{report.model} {report.version} at {report.store}")
    rate = report.requests / report.seconds if report.seconds and not report.resumed_at else None
    per_second = f", {rate:,.0f} a second" if rate else ""
    output.line(
        f"{count(report.requests, 'request', 'requests')}: {report.present:,} were there already, "
        f"{report.computed:,} computed, {report.stored:,} stored, {report.rejected:,} rejected "
        f"({report.seconds:.1f} s{per_second})"
    )
    if report.skipped:
        output.line(f"{report.skipped:,} predictions are not to be kept: cache_if, do_not_store()")
    if report.not_stored:
        output.line(f"{report.not_stored:,} predictions can't be kept: see the warnings above")
    if report.stale:
        output.line(f"{report.stale:,} are past their ttl, and the model raised")
    if report.rejected_file:
        output.line(f"the rejected ones and why: {report.rejected_file}")


def findings(output: Output, found: Sequence[Finding]) -> None:
    """Show what the doctor has found."""
    server = None
    for each in found:
        if each.server != server:
            server = each.server
            output.line(server, "bold")
        style = {"problem": "bold red", "note": "yellow"}.get(each.verdict, "")
        output.line(f"  {_VERDICTS[each.verdict]:<8} {each.check:<12} {each.text}", style)
        if each.advice:
            output.line(f"{'':<24}-> {each.advice}")
    problems = sum(each.verdict == "problem" for each in found)
    notes = sum(each.verdict == "note" for each in found)
    output.line(f"{count(problems, 'problem', 'problems')}, {count(notes, 'note', 'notes')}")
