"""A longer default timeout: a machine that is busy for a tenth of a second causes no misses.

Run a service with it:

    python -m tests.patience uvicorn service:app
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from model_cache import RedisCachingDecorator

DEFAULTS: Any = RedisCachingDecorator.__init__.__kwdefaults__
PATIENT = {"timeout": 5.0}

if __name__ == "__main__":
    DEFAULTS.update(PATIENT)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
