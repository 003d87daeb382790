"""Runnable examples; a package, so that `python -m examples...` works from the repository."""
