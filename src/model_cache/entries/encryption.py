"""Encrypt the payloads of entries with AES-256-GCM (NIST SP 800-38D).

An entry is bound to its key and to the head of its envelope: one that was moved to another key,
cut, or changed in any byte can't be decrypted, and is a miss.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pydantic import SecretBytes

from model_cache.errors import ConfigurationError

# The size that the standard recommends. Random, so that processes need not agree on a counter.
NONCE_SIZE = 12
TAG_SIZE = 16


class Cipher:
    """Encrypts with the first key and decrypts with any.

    Args:
        keys: the keys, 32 bytes each.
        nonce: returns a given number of random bytes.

    Raises:
        ConfigurationError: the extra `encryption` is not installed.
    """

    def __init__(
        self, keys: Sequence[SecretBytes], nonce: Callable[[int], bytes] = os.urandom
    ) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ConfigurationError(
                "encryption_key", 'needs an extra: pip install "ml-model-cache[encryption]"'
            ) from error
        self._invalid = InvalidTag
        self._ciphers = [AESGCM(key.get_secret_value()) for key in keys]
        self._nonce = nonce

    def encrypt(self, key: bytes, head: bytes, payload: bytes) -> bytes:
        """Return a nonce, the encrypted payload, and a tag over it, the key and the head."""
        nonce = self._nonce(NONCE_SIZE)
        return nonce + self._ciphers[0].encrypt(nonce, payload, _bound(key, head))

    def decrypt(self, key: bytes, head: bytes, data: bytes) -> bytes:
        """Return what `encrypt` has encrypted.

        Raises:
            ValueError: by another secret, for another key or head, or it is damaged.
        """
        if len(data) < NONCE_SIZE + TAG_SIZE:
            raise ValueError("truncated")
        nonce, encrypted, bound = data[:NONCE_SIZE], data[NONCE_SIZE:], _bound(key, head)
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, encrypted, bound)
            except self._invalid:
                continue
        raise ValueError("encrypted with another key, or damaged")


def _bound(key: bytes, head: bytes) -> bytes:
    return b"%x:%b%b" % (len(key), key, head)
