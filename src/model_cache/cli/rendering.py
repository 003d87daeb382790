"""The answers of the commands as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model_cache.cli.checks import Finding
from model_cache.cli.inventory import Inventory, ModelEntries, OneEntry, TimesLeft
from model_cache.cli.output import Output
from model_cache.cli.permissions import grant
from model_cache.cli.purge import Plan, Selection
from model_cache.cli.statistics import ModelStatistics, money
from model_cache.cli.warm import Report
from model_cache.words import break_even, count, duration, entry_count, size

_VERDICTS = {"ok": "ok", "note": "note", "problem": "PROBLEM", "unknown": "?"}


def inventory(output: Output, found: Inventory) -> None:
    """Show which models there are, in two lines each: names of any length stay whole."""
    for each in found.models:
        _model_entries(output, each)
    if not found.models:
        output.line("no entries")
    if found.foreign:
        output.line(count(found.foreign, "key that is not an entry", "keys that are not entries"))
    if any(each.looked_at < each.entries for each in found.models):
        largest = max(each.looked_at for each in found.models)
        output.line(
            f"Sizes, TTLs and formats are estimated from up to {entry_count(largest)} of each "
            "version (--sample)."
        )
    _missing(output, found.missing_rules)


def _model_entries(output: Output, found: ModelEntries) -> None:
    output.line(_name(found.model, found.version, found.prefix), "bold")
    each = found.bytes / found.entries if found.bytes is not None and found.entries else None
    facts = [
        entry_count(found.entries),
        f"{_memory(found.bytes)} ({size(each)} each)",
        _times(found.ttl),
        _formats(found) or "format ?",
    ]
    output.line(f"  {', '.join(facts)}")
    for problem, number in sorted(found.problems.items()):
        output.line(f"  {entry_count(number)} can't be decoded: {problem}")
    if wrong := found.tags.get("wrong"):
        output.line(
            f"  {count(wrong, 'tag is', 'tags are')} wrong, or made with another key_secret or "
            "encryption_key than in MODEL_CACHE_KEY_SECRET and MODEL_CACHE_ENCRYPTION_KEY"
        )
    for key in found.keys:
        output.line(key)


def _memory(number: int | None) -> str:
    # Not what they add to `used_memory`: see docs/capacity.md.
    return f"{size(number)} by MEMORY USAGE"


def _name(model: str, version: str | None, prefix: str | None) -> str:
    name = model if version is None else f"{model} {version}"
    return name + (f" (prefix {prefix})" if prefix is not None else "")


def statistics(
    output: Output, found: Sequence[ModelStatistics], price_per_hour: float | None
) -> None:
    """Show what the cache has saved, in three lines for each version of a model."""
    for each in found:
        stats = each.stats
        output.line(_name(each.model, each.version, each.prefix), "bold")
        output.line(
            f"  {count(stats.predictions, 'prediction')}: "
            f"{count(stats.hits, 'hit')} ({stats.hit_ratio:.1%}), "
            f"{count(stats.misses, 'miss', 'misses')}, "
            f"{stats.unavailable:,} without Redis, {count(stats.errors, 'error')}"
        )
        output.line(
            f"  {_saved(stats.seconds_saved, price_per_hour)}; {stats.lookup_hit_ratio:.1%} of "
            f"lookups hit, break-even {break_even(stats.break_even)}"
        )
        number = "? entries" if each.entries is None else entry_count(each.entries)
        output.line(f"  {number}, {_memory(each.bytes)}")
    if not found:
        output.line("no statistics and no entries")
    if len(found) > 1:
        seconds = sum(each.stats.seconds_saved for each in found)
        output.line(f"In all: {_saved(seconds, price_per_hour)}")


def _saved(seconds: float, price_per_hour: float | None) -> str:
    saved = money(seconds, price_per_hour)
    of_money = "" if saved is None else f" ({saved:,.2f})"
    return f"{duration(seconds)}{of_money} saved"


def _missing(output: Output, rules: Sequence[str]) -> None:
    if rules:
        output.line(f"? and NOPERM: the login lacks ACL rules: {grant(*rules)}")


def _times(ttl: TimesLeft) -> str:
    if not ttl.known:
        return "TTL left ?"
    if ttl.least is None or ttl.median is None or ttl.most is None:
        return "no TTL"
    times = duration(*(each / 1000 for each in (ttl.least, ttl.median, ttl.most)))
    without = f" ({ttl.without_ttl:.0%} have none)" if ttl.without_ttl else ""
    return f"TTL left {times}{without}"


def _formats(found: ModelEntries) -> str:
    compressors = {name: number for name, number in found.compressors.items() if name != "none"}
    envelopes = {name: number for name, number in found.forms.items() if name == "envelope"}
    packed = {name: number for name, number in found.layouts.items() if name == "packed"}
    encrypted = {"encrypted": found.encrypted} if found.encrypted else {}
    total = found.looked_at - found.undecodable
    return ", ".join(
        name if number == total else f"{name} {number / total:.0%}"
        for mix in (found.serders, compressors, envelopes, encrypted, packed)
        for name, number in sorted(mix.items(), key=lambda each: -each[1])
    )


def entry(output: Output, found: OneEntry) -> None:
    """Show one entry."""
    entry = found.entry
    left = found.ttl_ms
    ttl = "?" if left == "unknown" else "none" if left is None else duration(left / 1000)
    facts: Mapping[str, object] = {
        "model": found.model,
        "version": found.version,
        "prefix": found.prefix or "-",
        "digest": found.digest,
        "value": count(found.value_bytes, "byte"),
        "memory": size(found.bytes),
        "TTL left": ttl,
        "layout": found.layout,
        "form": entry.form or "-",
        "serder": entry.serder or "-",
        "compressor": entry.compressor or "-",
        "encrypted": "yes" if entry.encrypted else "no",
        "tag": entry.tag,
        "stale": "yes" if found.is_stale else "no",
    }
    for name, fact in facts.items():
        output.line(f"{name:<12}{fact}")
    if entry.problem:
        output.line(f"{'problem':<12}{entry.problem}")
    else:
        output.json(entry.value)
    _missing(output, found.missing_rules)


def plan(output: Output, selection: Selection, planned: Plan) -> None:
    """Show what a purge would delete."""
    for each in planned.groups:
        name = _name(selection.model, each.version, each.prefix)
        output.say(f"{name}: {_amount(each.entries, each.buckets)}")
    if not planned.keys:
        name = _name(selection.model, None, selection.prefix)
        output.say(f"{name}: no entries to delete; {planned.hint}")
        output.say("`model-cache inspect` lists all entries")


def purged(output: Output, planned: Plan, deleted: int, *, dry_run: bool) -> None:
    """Show what a purge deleted, or would delete."""
    if not dry_run:
        output.line(f"deleted {entry_count(deleted)}")
        return
    buckets = sum(each.buckets for each in planned.groups)
    output.line(f"would delete {_amount(len(planned.keys) - buckets, buckets)}")


def _amount(entries: int, buckets: int) -> str:
    amount, packed = entry_count(entries), f"{count(buckets, 'bucket')} of packed entries"
    if not buckets:
        return amount
    return f"{amount} and {packed}" if entries else packed


def warmed(output: Output, report: Report) -> None:
    """Show the result of warming."""
    output.line(f"{_name(report.model, report.version, None)} at {report.store}")
    rate = report.requests / report.seconds if report.seconds else 0.0
    output.line(
        f"{count(report.requests, 'request')}: {report.present:,} already cached, "
        f"{report.computed:,} computed, {report.stored:,} stored, {report.rejected:,} rejected "
        f"({report.seconds:.1f} s, {rate:,.0f} per second)"
    )
    if report.skipped:
        skipped = count(report.skipped, "prediction")
        output.line(f"{skipped} skipped by cache_if or do_not_store()")
    if report.not_stored:
        unstorable = count(report.not_stored, "prediction")
        output.line(f"{unstorable} can't be stored: see the warnings above")
    if report.stale:
        stale = count(report.stale, "stale prediction")
        output.line(f"{stale} could not be computed again")
    if report.rejected_file:
        output.line(f"rejected requests, with reasons: {report.rejected_file}")


def findings(output: Output, found: Sequence[Finding]) -> None:
    """Show the findings of the doctor."""
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
    output.line(f"{count(problems, 'problem')}, {count(notes, 'note')}")
