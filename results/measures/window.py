"""The window of a journal that counts, and how long blocks took to become steady in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats
from foundation.run.journal import Journal

# MSER-5: bins of a second in batches of five, and the fewest batches that say anything.
BATCH = 5
BATCHES = 8
# Standard errors by which the beginning must differ from the rest.
CLEARLY = 4.0


@dataclass(frozen=True)
class Settling:
    """How long a stage's blocks took to become steady after the warm-up.

    Times and rates leave out `cut_ns` of each window. `settled` is False if the blocks were not
    steady before half of the window was over; then nothing is cut.
    """

    cut_ns: int = 0
    settled: bool = True


NOTHING_CUT = Settling()


def window_of(journal: Journal) -> tuple[int, int]:
    """The window in ns from the origin: up to where it was stopped, if it was.

    A block that was cut off ends with the last thing it saw.
    """
    header, end = journal.header, journal.end
    seen = [
        latest(journal.requests.scheduled_ns),
        latest(journal.requests.done_ns),
        header.window_start_ns,
    ]
    ended_ns = max(seen) if end is None else end.window_end_ns
    ends = [at for at in (header.window_end_ns, ended_ns) if at is not None]
    return header.window_start_ns, max(header.window_start_ns, min(ends))


def settling_of(journals: Sequence[Journal]) -> Settling:
    """MSER-5 on the blocks of a stage, averaged by second so that no single block decides.

    White, "An Effective Truncation Heuristic for Bias Reduction in Simulation Output" (Simulation
    69, 1997), with batches of five: cut where the squared standard error of what is left is least.
    What is watched is the number in flight, or in a closed loop, where that is given, the number
    that ended. Windows under 40 s are taken as they are. So are those whose beginning is not
    clearly unlike the rest: least errors alone follow chance.
    """
    series = [_by_second(journal) for journal in journals]
    batches = min((len(one) for one in series), default=0) // BATCH
    if batches < BATCHES:
        return NOTHING_CUT
    mean = (
        np.mean([one[: batches * BATCH] for one in series], axis=0)
        .reshape(batches, BATCH)
        .mean(axis=1)
    )
    errors = [float(mean[d:].var() / (batches - d)) for d in range(batches // 2 + 1)]
    best = int(np.argmin(errors))
    if not best:
        return NOTHING_CUT
    before, after = mean[:best], mean[best:]
    by_chance = float(after.std(ddof=1)) * sqrt(1 / len(before) + 1 / len(after))
    if abs(before.mean() - after.mean()) <= CLEARLY * by_chance:
        return NOTHING_CUT
    return (
        Settling(settled=False) if best == batches // 2 else Settling(best * BATCH * 1_000_000_000)
    )


def _by_second(journal: Journal) -> Floats:
    """Requests in flight (open loop), or ended (closed), of each whole second of the window."""
    start, end = window_of(journal)
    edges = start + np.arange((end - start) // 1_000_000_000 + 1) * 1_000_000_000
    ended = ~np.isnan(journal.requests.sent_ns + journal.requests.done_ns)
    sent, done = journal.requests.sent_ns[ended], journal.requests.done_ns[ended]
    if journal.header.concurrency is not None:
        return np.histogram(done, edges)[0].astype(np.float64)
    return np.diff(_passed(sent, edges) - _passed(done, edges)) / 1e9


def _passed(stamps_ns: Floats, until_ns: NDArray[Any]) -> Floats:
    """For each moment the summed time since the stamps before it, ns."""
    ordered = np.sort(stamps_ns)
    before = np.searchsorted(ordered, until_ns)
    return np.asarray(before * until_ns - np.append(0.0, np.cumsum(ordered))[before])


def latest(stamps_ns: NDArray[Any]) -> int:
    """The latest stamp, 0 without any."""
    return int(np.nanmax(stamps_ns)) if np.any(~np.isnan(stamps_ns)) else 0
