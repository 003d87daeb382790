"""Looks behind the door of a decorator, where types no longer say what a test knows."""

from __future__ import annotations

from typing import Any

from model_cache import RedisCachingDecorator


def inside(decorator: RedisCachingDecorator) -> Any:
    """Return the decorator's predictor for threads."""
    return decorator._predictor


def inside_loops(decorator: RedisCachingDecorator) -> Any:
    """Return the decorator's predictor for event loops."""
    return decorator._async_predictor
