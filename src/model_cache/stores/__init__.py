"""Stores: read and write bytes by key, with a timeout for each request.

`url` parses the address of Redis, and `opening` builds a store: a server or a cluster, with a
circuit breaker per server. All failures are raised as `StoreUnavailableError`.
"""
