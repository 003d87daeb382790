"""Cache keys: canonical bytes of inputs, the keys derived from them, and rounding.

A key is a digest of canonical bytes (`canonical`). This package handles values and selections of
fields; it does not depend on options, entries or Redis.
"""
