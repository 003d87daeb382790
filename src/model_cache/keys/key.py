"""The key of an input: `[{prefix}/]{qualified_name}/{version}/{digest}`.

The digest covers everything that a prediction depends on: the namespace, the revision, the
decorators around the model, the output schema, the selection of fields, and their values.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, SecretBytes

from model_cache.keys.canonical import (
    FORMAT,
    INPUTS,
    UNORDERED_INPUTS,
    KeyTree,
    Selection,
    Tree,
    guarded,
)
from model_cache.keys.canonical.identities import text
from model_cache.redaction import KeySecret, revealed

DIGEST_LENGTH = 22
"""Length of a digest in characters: 128 bits as base64url without padding."""

TO_BASE64URL = bytes.maketrans(b"+/", b"-_")
_DIGEST = re.compile(b"[A-Za-z0-9_-]{%d}" % DIGEST_LENGTH)
_SPECIAL = frozenset("/%{}*?[]\\")


def derived_key(secret: str | bytes | KeySecret | None, purpose: bytes) -> bytes:
    """Derive 64 bytes for one purpose from a secret of any length; b"" without a secret."""
    if secret is None:
        return b""
    plain: str | bytes = revealed(secret)
    raw = plain.encode("utf-8", "surrogatepass") if isinstance(plain, str) else plain
    return hashlib.blake2b(raw, digest_size=64, person=purpose).digest()


def tag_key(secret: str | bytes | KeySecret | None) -> bytes:
    """Return the key for the entries' tags; see `derived_key`."""
    return derived_key(secret, b"model_cache tag")


def encryption_key(secret: str | bytes | KeySecret) -> SecretBytes:
    """Return the key for encrypting entries; see `derived_key`."""
    return SecretBytes(derived_key(secret, b"model_cache aead")[:32])


class Namespace:
    """The key prefix shared by the entries of one version of one model.

    Args:
        prefix: the user's prefix, or None.
        qualified_name: the model's qualified name.
        version: the model's version.
    """

    def __init__(self, prefix: str | None, qualified_name: str, version: str) -> None:
        parts = [qualified_name, version] if prefix is None else [prefix, qualified_name, version]
        self.text = "/".join(map(_escaped, parts)) + "/"
        self.raw = self.text.encode()
        # The quoted parts contain no glob characters.
        self.pattern = self.raw + b"[^/]" * DIGEST_LENGTH
        last = b"(?:[A-Za-z0-9_-]{%d}|~[0-9a-f]{8}~[0-9a-f]{12})" % DIGEST_LENGTH
        self._entry = re.compile(re.escape(self.raw) + last)

    def holds(self, key: bytes) -> bool:
        """Return whether `key` is the key of an entry, or of a bucket of entries, here."""
        return self._entry.fullmatch(key) is not None


class EntryKey(NamedTuple):
    """The parts of a key, unquoted."""

    prefix: str | None
    qualified_name: str
    version: str
    digest: str


def parse_key(key: bytes) -> EntryKey | None:
    """Take a key apart; None if it is not exactly of the form that keys of entries have."""
    head, _, digest = key.rpartition(b"/")
    parts = parse_namespace(head) if _DIGEST.fullmatch(digest) else None
    return None if parts is None else EntryKey(*parts, digest.decode())


def parse_namespace(text: bytes) -> tuple[str | None, str, str] | None:
    """Return the prefix, name and version in front of a key's last "/"; None if it has others."""
    raw = text.split(b"/")
    if len(raw) not in (2, 3):
        return None
    parts = [part for each in raw if (part := _unescaped(each)) is not None]
    # If it does not round-trip, it was not written by this library.
    if [_escaped(part).encode() for part in parts] != raw:
        return None
    *prefixes, name, version = parts
    prefix = prefixes[0] if prefixes else None
    return None if prefix == "" else (prefix, name, version)


def entries_pattern(prefix: str | None, qualified_name: str, version: str | None) -> bytes:
    """Return a glob for the keys of a model's entries; filter its matches with `parse_key`.

    Args:
        prefix: the prefix of the keys; None for no prefix.
        qualified_name: the model's qualified name.
        version: the model's version; None for any.
    """
    given = [qualified_name] if prefix is None else [prefix, qualified_name]
    parts = [*map(_escaped, given), "*" if version is None else _escaped(version)]
    return "/".join(parts).encode() + b"/" + b"[^/]" * DIGEST_LENGTH


def _unescaped(part: bytes) -> str | None:
    try:
        return unquote_to_bytes(part).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _escaped(part: str) -> str:
    return "".join(map(_escaped_character, str(part)))


def _escaped_character(character: str) -> str:
    plain = (
        character not in _SPECIAL
        and not character.isspace()
        and unicodedata.category(character) not in ("Cc", "Cs")
    )
    if plain:
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


class KeyMaker:
    """Computes the keys for one binding of a model.

    Args:
        namespace: the namespace of the entries.
        revision: the model's revision, which distinguishes models of the same version; may be "".
        schema: the output schema's fingerprint.
        decorators: canonical bytes for the decorators between the cache and the model.
        selection: which fields of the input are part of the key; None for all.
        ordered_dicts: whether the order of the items of the input's dicts counts.
        secret: keys the digest, so that guessable inputs can't be recovered from keys.
    """

    def __init__(
        self,
        namespace: Namespace,
        *,
        revision: str = "",
        schema: bytes = b"",
        decorators: bytes = b"",
        selection: Selection | None = None,
        ordered_dicts: bool = True,
        secret: str | bytes | KeySecret | None = None,
    ) -> None:
        self._prefix = namespace.raw
        self.canonicalizer = INPUTS if ordered_dicts else UNORDERED_INPUTS
        """What makes canonical bytes of any part of an input."""
        self.encoders = self.canonicalizer.encoders(selection)
        """By class, what encodes its instances, and may raise anything."""
        self.canonical = guarded(self.encoders)
        """Return the canonical bytes of an input, or raise `NotCacheableError`."""
        chosen: Any = None if selection is None else (selection.keep, _paths(selection.tree))
        if not ordered_dicts:
            chosen = (chosen, "dicts without an order")
        self._hasher = hashlib.blake2b(
            b"%x;" % FORMAT
            + text(namespace.text)
            + text(revision)
            + INPUTS.encode(schema)
            + INPUTS.encode(decorators)
            + INPUTS.encode(chosen),
            digest_size=16,
            key=derived_key(secret, b"model_cache key"),
        )

    def key(self, data: BaseModel) -> bytes:
        """Return the key of an input.

        Raises:
            NotCacheableError: the input contains a value that has no canonical form.
        """
        return self.key_of(self.canonical(data))

    def key_of(self, canonical: bytes) -> bytes:
        """Return the key of an input, from its canonical bytes."""
        hasher = self._hasher.copy()
        hasher.update(canonical)
        encoded = binascii.b2a_base64(hasher.digest(), newline=False)
        return self._prefix + encoded.translate(TO_BASE64URL, b"=")

    def keys_of(self, head: bytes, tails: Iterable[bytes]) -> list[bytes]:
        """Return the keys of inputs whose canonical bytes have the same beginning."""
        beginning = self._hasher.copy()
        beginning.update(head)
        digests: list[bytes] = []
        for tail in tails:
            hasher = beginning.copy()
            hasher.update(tail)
            digests.append(hasher.digest())
        # All at once. Two bytes after each digest make it 24 characters, the first 22 of which are
        # those of the digest alone.
        padded = b"\0\0".join([*digests, b""])
        encoded = binascii.b2a_base64(padded, newline=False).translate(TO_BASE64URL)
        prefix = self._prefix
        return [
            prefix + encoded[start : start + DIGEST_LENGTH] for start in range(0, len(encoded), 24)
        ]


def _paths(tree: Tree, above: str = "") -> list[str]:
    # No path has an empty part, so these dots tell the keys of dicts from names of fields.
    dot = "." if isinstance(tree, KeyTree) else ""
    paths = []
    for name, below in sorted(tree.items()):
        path = f"{above}{dot}{name}"
        paths += [path] if below is None else _paths(below, f"{path}.")
    return paths
