"""The advice to look at: a page with charts, and a table for notebooks.

A chart is a value (`chart`), made of findings by `frontier`, `curves` and `money`, and drawn by
`drawing`. Texts become markup in `markup` only, which escapes them. Nothing here computes advice.
"""

from __future__ import annotations

from model_cache.advisor.report.notebook import as_cell
from model_cache.advisor.report.page import as_page

__all__ = ["as_cell", "as_page"]
