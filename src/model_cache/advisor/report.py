"""The advice as a page: one file, which fetches nothing."""

from __future__ import annotations

from html import escape

from model_cache.advisor.advice import Advice

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<h1>{title}</h1>
<p><strong>{sentence}</strong></p>
<pre style="white-space: pre-wrap">{summary}</pre>
<h2>Options</h2>
<pre>{yaml}</pre>
</html>
"""


def html(advice: Advice) -> str:
    """Return the advice as an HTML page."""
    return _PAGE.format(
        title=escape(f"Advice for {advice.model} {advice.version}"),
        sentence=escape(advice.sentence),
        summary=escape(str(advice)),
        yaml=escape(advice.to_yaml()),
    )
