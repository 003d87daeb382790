"""Entries: how predictions are stored in Redis.

The codec encodes predictions with a serder and a compressor, and verifies on write that they
decode unchanged.
"""
