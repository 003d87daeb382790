"""Cache keys: canonical bytes of inputs, the keys derived from them, and rounding.

A key is a digest of canonical bytes (`canonical`). This package handles values, selections of
fields, and the annotations that say which values to expect (`schemas`); it does not depend on
options, entries or Redis.
"""
