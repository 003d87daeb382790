"""The options of a cache, validated once, when the cache is created.

Checks that need the model's schemas run later, in `binding`.
"""
