"""All faults, the outcomes of predictions during each, and the promised bounds."""

from __future__ import annotations

import gc

from tests.faults import in_a_fleet, in_a_loop, in_company, in_processes, one_server
from tests.faults.load import Row, Run
from tests.faults.stalls import Stalls

ROWS: tuple[Row, ...] = (
    *one_server.ROWS,
    *in_processes.ROWS,
    *in_a_fleet.ROWS,
    *in_company.ROWS,
    *in_a_loop.ROWS,
)

TIMEOUT = 0.1
"""Seconds: the decorator's default, which the rows do not change where the wait is bounded."""

SLACK = 0.05
"""Seconds that a prediction may wait for the store beyond its time-out."""

LAG = 0.05
"""Seconds that an event loop may stand still for."""


def run_row(row: Row, seconds: float) -> Run:
    """Let a row's fault happen, for about so many seconds."""
    run = Run(seconds, row.tasks)
    # What has been imported takes long to collect, which is no wait for the store.
    gc.collect()
    gc.freeze()
    try:
        with Stalls() as stalls:
            row.happen(run)
    finally:
        gc.unfreeze()
    run.stall = stalls.longest
    return run


def broken_promises(row: Row, run: Run, generously: float = 0.0) -> list[str]:
    """Return what a run of a row shows that should not be.

    Args:
        row: the row.
        run: its run.
        generously: seconds that may be added to each bound.
    """
    tally, broken = run.tally, []
    if not tally.predictions:
        broken.append("nothing was predicted")
    if tally.failed:
        broken.append(f"{tally.failed} predictions failed, the first: {tally.first_error}")
    if tally.wrong:
        broken.append(f"{tally.wrong} predictions were wrong, the first: {tally.first_error}")
    most = TIMEOUT + SLACK + row.extra + run.stall + generously
    if row.bounded and tally.worst > most:
        broken.append(f"a prediction waited {tally.worst:.3f} s for the store, over {most:.3f} s")
    if run.lag > LAG + run.stall + generously:
        broken.append(f"the event loop stood still for {run.lag:.3f} s, over {LAG:.3f} s")
    if run.recovery is None or run.recovery > row.recovers_within + generously:
        broken.append(f"hits were back after {run.recovery} s, over {row.recovers_within} s")
    return broken
