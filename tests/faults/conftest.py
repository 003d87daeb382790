"""Fixtures of the fault matrix, which is about the default timeout."""

from __future__ import annotations

import pytest


@pytest.fixture
def _patience() -> None:
    """Leave the defaults as they are."""
