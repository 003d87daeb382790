"""Which inputs share an entry: canonical bytes, the key made of them, and rounding.

A key is a digest of canonical bytes (`canonical`). This package knows values and selections of
fields; it knows neither options, nor entries, nor Redis.
"""
