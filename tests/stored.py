"""What a test finds in Redis."""

from __future__ import annotations

import redis


def entries(client: redis.Redis, pattern: str = "*") -> list[bytes]:
    """Return the keys that match a pattern, besides the generations and counts of namespaces."""
    others = (b"/generation", b"/stats")
    return [key for key in client.scan_iter(pattern) if not key.endswith(others)]
