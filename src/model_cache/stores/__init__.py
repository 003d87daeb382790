"""Stores: bytes by key, each request within the time that the caller gives.

`url` says where Redis is, and `opening` puts a store together: a server or a cluster, each server
behind a circuit breaker. All failures leave as `StoreUnavailableError`. What the bytes mean is not
known here.
"""
