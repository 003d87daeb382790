"""`python -m benchmarks`: run the benchmarks, and write docs/benchmarks.md."""

import sys

from benchmarks.report import main

sys.exit(main())
