"""What the bindings of all that a cache wraps do alike."""

from __future__ import annotations

from typing import Any

from model_cache.binding import new_near_prefix
from model_cache.entries.row_entries import RowsSerder
from model_cache.entries.values import PythonValues
from model_cache.keys.key import KeyMaker, Namespace
from model_cache.options.config import Config
from model_cache.wrappers.identity import Identity


class WrappedBinding:
    """The base of the bindings of functions, and of functions of many rows.

    Args:
        identity: what tells it from all else that is cached.
        config: the validated options.
        schema: distinguishes the keys of what has another kind of entries.
        serder: converts its results to bytes and back.
    """

    output_schema: type
    rounds = False
    left_out = ()

    def __init__(
        self, identity: Identity, config: Config, schema: bytes, serder: PythonValues | RowsSerder
    ) -> None:
        self.qualified_name = identity.name
        self.version = identity.version
        self.namespace = Namespace(config.prefix, identity.name, identity.version)
        self.near_prefix = new_near_prefix()
        self.keys = KeyMaker(
            self.namespace,
            revision=identity.revision,
            schema=schema,
            decorators=identity.facts,
            secret=config.digest_secret,
        )
        self.codec = config.codec(self.output_schema, serder)

    def rounded(self, data: Any) -> Any:
        """Return the input as it is."""
        return data
