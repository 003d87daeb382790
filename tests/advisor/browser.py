"""A real Chromium without a window, which shows pages and says what it saw."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SEEN = re.compile(r'<html[^>]* data-seen="([^"]*)"')


@dataclass(frozen=True)
class Seen:
    """What the browser saw.

    Attributes:
        page: what the script found out.
        console: the messages of the browser's console.
    """

    page: dict[str, Any]
    console: list[str]


def find_chromium() -> str:
    """Return Chromium; without one, skip the test, or fail if it was promised."""
    found = next((path for path in map(shutil.which, _NAMES) if path), None)
    if found is None and os.environ.get("REQUIRE_CHROMIUM"):
        pytest.fail("REQUIRE_CHROMIUM is set, and there is no chromium: apt install chromium")
    if found is None:
        pytest.skip("there is no chromium: apt install chromium")
    return found


def framed(page: str, width: int) -> str:
    """Return a page that shows another one in a frame of this width: windows are wider than 500."""
    frame = f'<iframe srcdoc="{escape(page)}" style="border: 0; width: {width}px; height: 900px">'
    head = '<meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    return f'<!doctype html><html lang="en">{head}<title>Frame</title>{frame}</iframe></html>'


def show(
    chromium: str,
    page: Path,
    *,
    dark: bool = False,
    patience: int = 0,
    reads_files: bool = False,
) -> Seen:
    """Return what a browser sees in a page that leaves its findings in `data-seen`.

    Args:
        chromium: the browser.
        page: the page.
        dark: whether the reader prefers dark pages.
        patience: how many seconds, of a clock that runs ahead, timers may take after the loading.
        reads_files: whether a page that is a file may look into others.
    """
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",  # containers run tests as root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={page.parent / 'profile'}",
            "--window-size=1400,900",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--enable-logging=stderr",
            *([f"--virtual-time-budget={1000 * patience}"] if patience else []),
            *(["--allow-file-access-from-files"] if reads_files else []),
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    found = _SEEN.search(done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(json.loads(unescape(found[1])) if found else {}, console)
