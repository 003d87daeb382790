"""The built-in compressors, with bounded decompression.

Data from Redis is untrusted: each compressor checks the claimed size before allocating memory.
zstd and lz4 are extras, imported at first use.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

import snappy

from model_cache.entries.registry import Registry
from model_cache.errors import ConfigurationError
from model_cache.protocols import Compressor


class TooLargeError(ValueError):
    """The decompressed data would exceed the limit."""


def _check(size: int, max_size: int) -> None:
    if not 0 <= size <= max_size:
        raise TooLargeError(f"{size} bytes, more than {max_size}")


class Snappy:
    """Google's Snappy: fast, with a modest ratio; the default."""

    name = "snappy"
    id = 1

    def compress(self, data: bytes) -> bytes:
        compressed: bytes = snappy.compress(data)
        return compressed

    def decompress(self, data: bytes, max_size: int) -> bytes:
        size = 0
        for place, byte in enumerate(data[:5]):  # the size comes first, as a varint
            size |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                break
        _check(size, max_size)
        restored: bytes = snappy.uncompress(data)
        return restored


class Zstd:
    """Zstandard: the best ratio of the three."""

    name = "zstd"
    id = 2

    def __init__(self) -> None:
        self._local = threading.local()  # zstd objects are not thread-safe

    def compress(self, data: bytes) -> bytes:
        if not hasattr(self._local, "compressor"):
            self._local.compressor = _extra("zstandard", self.name).ZstdCompressor()
        compressed: bytes = self._local.compressor.compress(data)
        return compressed

    def decompress(self, data: bytes, max_size: int) -> bytes:
        zstandard = _extra("zstandard", self.name)
        size = zstandard.get_frame_parameters(data).content_size
        _check(size, max_size)
        if not hasattr(self._local, "decompressor"):
            self._local.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        restored: bytes = self._local.decompressor.decompress(data, max_output_size=max_size)
        return restored


class LZ4:
    """LZ4 blocks, prefixed with their size: the fastest to decompress."""

    name = "lz4"
    id = 3

    def compress(self, data: bytes) -> bytes:
        compressed: bytes = _extra("lz4.block", self.name).compress(data)
        return compressed

    def decompress(self, data: bytes, max_size: int) -> bytes:
        _check(int.from_bytes(data[:4], "little"), max_size)
        restored: bytes = _extra("lz4.block", self.name).decompress(data)
        return restored


def _extra(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            "use_compression",
            f'{name!r} is an extra; install it with: pip install "ml-model-cache[{name}]"',
        ) from error


COMPRESSORS: Registry[Compressor] = Registry(
    "use_compression", Compressor, [Snappy(), Zstd(), LZ4()]
)


def register_compressor(compressor: Compressor) -> None:
    """Register a compressor under its name (for the option) and its id (for entries).

    Args:
        compressor: has `name`, `id` (128 to 255), `compress` and `decompress`: see
            `model_cache.Compressor`.

    Raises:
        ConfigurationError: it lacks one of these, or its name or id is already used.
    """
    COMPRESSORS.register(compressor)
