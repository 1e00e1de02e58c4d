"""Whether a stage's numbers may be believed: what a careful person would hold against the instrument, not against the server.

INVALID: the load generator, and not the server, may have made the numbers; nothing is decided on them.
SUSPECT: they stand, but something about them should be looked at first. `steady` has the notes that change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np

from results.journal import named
from results.metrics import Limits, counted, values_in
from results.records import Ceiling
from results.requests import Floats
from results.steady import StageData, client_late
from results.summary import Validity
from results.token_times import miscounted

CEILING_FILE = "calibration.json"
CEILING_SHARE = 0.7
SLIP_MS = 5.0
SLIP_SLO_SHARE = 0.02
ACHIEVED_SHARE = 0.99
LAG_SHARE = 0.05
STALL_MS = 100.0
LITTLE_SHARE = 0.1
MISCOUNT_SHARE = 0.05

Level = Literal["VALID", "SUSPECT", "INVALID"]
Doubt = tuple[Level, str]
_LEVELS: tuple[Level, ...] = get_args(Level)


def read_ceiling(run: Path) -> Ceiling | None:
    """What the load generator of a run's machine was calibrated to, None where it was not."""
    file = run / CEILING_FILE
    return msgspec.json.decode(file.read_bytes(), type=Ceiling) if file.is_file() else None


def validity_of(stage: StageData, limits: Limits, ceiling: Ceiling | None) -> Validity:
    """`limits`: the most a request may take, ms, by metric (the SLOs)."""
    doubts = [
        *_damaged(stage),
        *_not_sent(stage),
        *_slip(stage, limits),
        *(_near_ceiling(stage, ceiling) if ceiling else ()),
        *_away(stage),
        *_token_counts(stage),
        *_not_steady(stage),
    ]
    return Validity(
        level=_worst(level for level, _ in doubts),
        reasons=[f"{level}: {words}" for level, words in sorted(doubts, key=lambda doubt: doubt[0])],
    )


def worst(parts: Sequence[tuple[str, Validity]]) -> Validity:
    """Of several, each with where it is, taken together."""
    return Validity(
        level=_worst(validity.level for _, validity in parts),
        reasons=[f"{where}: {reason}" for where, validity in parts for reason in validity.reasons],
    )


def _worst(levels: Iterable[Level]) -> Level:
    return max(levels, key=_LEVELS.index, default="VALID")


def _damaged(stage: StageData) -> list[Doubt]:
    if not stage.damage:
        return []
    lines = "one line of its journals" if len(stage.damage) == 1 else f"{len(stage.damage)} lines of its journals"
    return [("SUSPECT", f"{lines} can't be read, and no number holds them: {named(stage.damage)}")]


def _not_sent(stage: StageData) -> list[Doubt]:
    failed = [failure for block in stage.blocks for failure in block.requests.failure]
    dropped = failed.count("dropped")
    achieved = 1 - (dropped + failed.count("cancelled")) / max(len(failed), 1)
    if stage.offered_rate is not None and achieved < ACHIEVED_SHARE:
        more = f", {dropped} dropped over max_in_flight" if dropped else ""
        return [("INVALID", f"only {achieved:.1%} of the offered arrivals were sent{more}")]
    return [("SUSPECT", f"{dropped} arrivals were dropped over max_in_flight")] if dropped else []


def _slip(stage: StageData, limits: Limits) -> list[Doubt]:
    if late := client_late(stage):
        return [("INVALID", late)]
    slips = _joined([block.steady.slip for block in stage.blocks])
    tightest = min((limit for name, limit in limits.items() if name in ("latency", "ttft")), default=np.inf)
    limit = min(SLIP_MS, SLIP_SLO_SHARE * tightest)
    if len(slips) and (p99 := float(np.percentile(slips, 99))) > limit:
        return [("SUSPECT", f"requests went out late: schedule slip p99 is {p99:.1f} ms, and should be under {limit:.1f} ms")]
    return []


def _near_ceiling(stage: StageData, ceiling: Ceiling) -> list[Doubt]:
    window_s = stage.window_s
    if not window_s:
        return []
    workers = min((block.workers for block in stage.blocks), default=1)
    loads = (
        ("events/s", sum(int(block.steady.chunks.count.sum()) for block in stage.blocks) / window_s, ceiling.events_per_s),
        ("requests/s", stage.timed / window_s, ceiling.requests_per_s),
        ("open streams", max(block.in_flight for block in stage.blocks), float(ceiling.streams)),
    )
    found: list[Doubt] = []
    for what, load, most in loads:
        if load > CEILING_SHARE * most * workers:
            beyond = f"{load / (most * workers):.0%} of the calibrated {most * workers:,.0f}" if most else "and none was held"
            found.append(("SUSPECT", f"the load generator is near its ceiling: {load:,.0f} {what}, {beyond}; use more workers"))
    return found


def _away(stage: StageData) -> list[Doubt]:
    """How far behind the event loop was: kernel stamps do not mind, closed loops and stamps of the user's clock do."""
    found: list[Doubt] = []
    stall = max((block.stall_ms for block in stage.blocks), default=0.0)
    if stall > STALL_MS:
        found.append(("SUSPECT", f"the load generator was away from its work for {stall:.0f} ms"))
    lag = stage.by_chunk["client_lag"].mean
    service = _joined([values_in(block, "service_latency") for block in stage.blocks])
    if len(service) and (share := lag / float(np.mean(service))) > LAG_SHARE:
        found.append(("SUSPECT", f"chunks waited {lag:.1f} ms to be read, {share:.0%} of the mean latency (client lag)"))
    return found


def _token_counts(stage: StageData) -> list[Doubt]:
    """Tokens by chunk against the server's count. An end token is in no chunk, and now and then a token without text."""
    odd = counted = 0
    for block in stage.blocks:
        requests = block.requests
        known = requests.ok & ~np.isnan(requests.output_tokens)
        odd += int((miscounted(requests) & known).sum())
        counted += int(known.sum())
    if odd <= MISCOUNT_SHARE * counted:
        return []
    return [
        ("SUSPECT", f"in {odd} of {counted} answers the chunks carried another number of tokens than the server counted: no ITL")
    ]


def _not_steady(stage: StageData) -> list[Doubt]:
    found: list[Doubt] = []
    if stage.held.value is False:
        found.append(("SUSPECT", f"no steady state: {stage.held.reason}"))
    if not stage.settling.found:
        found.append(("SUSPECT", "no steady state in the first half of the windows (MSER-5 on seconds)"))
    for block in stage.blocks:
        off = abs(counted([block], {})["little_ratio"] - 1)
        # What is under way at the ends of a window is in one side only: at most the mean time under way, of its length.
        stays = block.steady.in_flight[~np.isnan(block.steady.in_flight)]
        ends = float(np.mean(stays)) / 1e3 / block.window_s if len(stays) and block.window_s else 0.0
        if not found and off > max(LITTLE_SHARE, 3 / sqrt(max(len(block.steady), 1))) + ends:
            words = f"no steady state: in flight is {off:.0%} away from what Little's law expects in block {block.number}"
            found.append(("SUSPECT", words))
    return found


def _joined(parts: Sequence[Floats]) -> Floats:
    values = np.concatenate([np.empty(0), *parts])
    return np.asarray(values[~np.isnan(values)])
