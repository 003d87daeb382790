"""The article's experiments, repeated: `python -m examples.demo`, or `make demo`.

Where to read on: `article` has the article's results and its cache, `answers` checks predictions,
`experiments` measures times and sizes, `rounding` counts what rounding changes.
"""
