"""Stores: bytes by key. Redis is one; the others are stores around a store."""
