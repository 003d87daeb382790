"""The article's experiments, repeated: `python -m examples.demo`, or `make demo`.

To read on: `article` for what the article measured and the cache that it measured, `answers`
for how predictions are checked, `experiments` for what is timed and counted.
"""
