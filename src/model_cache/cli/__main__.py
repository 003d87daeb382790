"""`python -m model_cache.cli`, the same as `model-cache`."""

from model_cache.cli import main

main()
