"""The path of this checkout, and the import path for subprocesses that test it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

# Whatever this process imports, its subprocesses import too: the tests, and this checkout's
# package rather than one that is installed.
IMPORTS = os.pathsep.join(dict.fromkeys([str(REPOSITORY), *filter(None, sys.path)]))
