"""The libraries whose values entries may contain, where the process has imported them.

An entry, which anyone may have written, imports nothing.
"""

from __future__ import annotations

import sys
from typing import Any


class NotImportedError(ValueError):
    """A value of a library that this process has not imported.

    Attributes:
        library: its name.
    """

    def __init__(self, library: str) -> None:
        super().__init__(f"{library} is not imported")
        self.library = library


def loaded(name: str) -> Any:
    """Return a library.

    Raises:
        NotImportedError: the process has not imported it.
    """
    module = sys.modules.get(name)
    if module is None:
        raise NotImportedError(name)
    return module
