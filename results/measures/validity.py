"""The validity of a stage: doubts about the load generator, not about the server.

INVALID: the load generator, and not the server, may have made the numbers, or they are not of one
measurement; nothing is decided on them. SUSPECT: they stand, but something about them should be
looked at first. `stage_notes` has the notes that change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np

from foundation.arrays import Floats
from foundation.run.ceiling import CEILING_SHARE, SLIP_LIMIT_MS, Ceiling
from foundation.run.journal import Damage, damage_in_words
from foundation.run.json_files import read_json
from foundation.run.layout import CALIBRATION_FILE
from results.measures.doubt import Doubt, Level, some, worst_level
from results.measures.machines import machine_doubts
from results.measures.sent_late import LATE_SHARE, SENT_LATE, client_late
from results.measures.steady_state import StageBlock, StageData
from results.measures.token_times import miscounted
from results.measures.values import Limits, counted, values_in
from results.summary import Validity

SLIP_SLO_SHARE = 0.02
ACHIEVED_SHARE = 0.99
LAG_SHARE = 0.05
STALL_MS = 100.0
LITTLE_SHARE = 0.1
MISCOUNT_SHARE = 0.05
EARLY_MS = 1.0
STEP_MS = 1.0
NOT_ALL_SENT = "only"
# Where more than this share of the requests is not to be believed, nothing is.
LOST_SHARE = 0.05


def read_ceiling(run: Path) -> Ceiling | Damage | None:
    """What the load generator of a run's machine was calibrated to, None where it was not."""
    return read_json(run, CALIBRATION_FILE, Ceiling)


def validity_of(
    stage: StageData,
    limits: Limits,
    ceiling: Ceiling | None,
    dtype_doubt: str | None = None,
    failed: str | None = None,
) -> Validity:
    """`limits`: the most a request may take, ms, by metric (the SLOs).

    `dtype_doubt`: why the server's format is slow here. `failed`: why the server did not live to
    the end.
    """
    return _validity(
        [
            *([("INVALID", failed)] if failed else ()),
            *([("SUSPECT", dtype_doubt)] if dtype_doubt else ()),
            *_recorded(stage),
            *_not_sent(stage),
            *machine_doubts(stage, limits),
            *_early(stage),
            *_slip(stage, limits),
            *(_near_ceiling(stage, ceiling) if ceiling else ()),
            *_away(stage),
            *_token_counts(stage),
            *_not_steady(stage),
        ]
    )


def probe_validity(stage: StageData) -> Validity:
    """Of a probe, whose answers count and whose times do not."""
    return _validity(_recorded(stage))


def unread_validity(unread: Sequence[Damage]) -> Validity:
    """Of stages that have no journal of their own that can be read."""
    return _validity(
        [
            (
                "SUSPECT",
                f"{some(len(unread), 'journal')} left out, and nothing else there: "
                f"{damage_in_words(unread)}",
            )
        ]
    )


def failed_validity(why: str) -> Validity:
    """The validity of a variant without measurement, since its server failed."""
    return _validity([("INVALID", why)])


def _validity(doubts: Sequence[Doubt]) -> Validity:
    return Validity(
        level=worst_level(level for level, _ in doubts),
        reasons=[
            f"{level}: {words}" for level, words in sorted(doubts, key=lambda doubt: doubt[0])
        ],
    )


def too_much_to_send(validity: Validity) -> bool:
    """Whether the load generator could not send what was planned, when it was planned."""
    return any(
        reason.startswith((f"INVALID: {SENT_LATE}", f"INVALID: {NOT_ALL_SENT}"))
        for reason in validity.reasons
    )


def worst(parts: Sequence[tuple[str, Validity]]) -> Validity:
    """Of several, each with where it is, taken together."""
    return Validity(
        level=worst_level(validity.level for _, validity in parts),
        reasons=[f"{where}: {reason}" for where, validity in parts for reason in validity.reasons],
    )


def _recorded(stage: StageData) -> list[Doubt]:
    """Whether what stands in the journals is what was asked, whole, once, and by one clock."""
    return [
        *stage.findings, *_damaged(stage), *_missing(stage), *_surplus(stage), *_clock_steps(stage)
    ]  # fmt: skip


def _damaged(stage: StageData) -> list[Doubt]:
    """Whole journals, whose first line says why, and single lines."""
    journals, lines = (
        [d for d in stage.damage if (d.line <= 1) is whole] for whole in (True, False)
    )
    doubts: list[Doubt] = []
    if journals:
        doubts.append(
            ("SUSPECT", f"{some(len(journals), 'journal')} left out: {damage_in_words(journals)}")
        )
    if lines:
        everything = sum(
            len(b.requests) + b.left_out.warm_up + b.left_out.ramp_down for b in stage.blocks
        ) + len(lines)
        words = (
            f"{some(len(lines), 'line')} of its journals can't be, or can't be read, and no "
            "number holds them"
        )
        doubts.append(
            (
                "INVALID" if len(lines) > LOST_SHARE * everything else "SUSPECT",
                f"{words}: {damage_in_words(lines)}",
            )
        )
    return doubts


def _missing(stage: StageData) -> list[Doubt]:
    blocks = [block for block in stage.blocks if block.missing]
    if not blocks:
        return []
    missing = sum(block.missing for block in blocks)
    words = (
        f"{some(missing, 'planned request')} left no record ({_named(blocks)}): whether they "
        "failed is not known"
    )
    whole = all(
        not block.notes for block in blocks
    )  # one that was cut off says so, and its window ends there
    return [
        ("INVALID" if whole and missing > LOST_SHARE * (stage.n + missing) else "SUSPECT", words)
    ]


def _surplus(stage: StageData) -> list[Doubt]:
    blocks = [block for block in stage.blocks if block.surplus]
    if not blocks:
        return []
    surplus = sum(block.surplus for block in blocks)
    words = (
        f"{some(surplus, 'record')} more than requests were planned ({_named(blocks)}): what they "
        "are of is not known"
    )
    return [("INVALID" if surplus > LOST_SHARE * stage.n else "SUSPECT", words)]


def _named(blocks: Sequence[StageBlock]) -> str:
    return f"block {', '.join(str(block.number) for block in blocks)}"


def _clock_steps(stage: StageData) -> list[Doubt]:
    """Chunks that came within a second of a step bear a stamp that is off by it."""
    stepped = [block for block in stage.blocks if block.clock_step_ms > STEP_MS]
    if not stepped:
        return []
    most = max(block.clock_step_ms for block in stepped)
    words = (
        f"the clock of the chunks was set by up to {most:,.0f} ms during "
        f"{some(len(stepped), 'block')}"
    )
    typical = _joined([block.steady.latency[block.steady.ok] for block in stage.blocks])
    matters = (
        len(typical) > 0
        and most > LATE_SHARE * float(np.median(typical))
        and len(stepped) > LOST_SHARE * len(stage.blocks)
    )
    return [
        (
            "INVALID" if matters else "SUSPECT",
            f"{words}: times of a second around it are off by as much",
        )
    ]


def _early(stage: StageData) -> list[Doubt]:
    """An early request looks faster than it was, since latency counts from the scheduled time."""
    slips = _joined([block.requests.slip for block in stage.blocks])
    early = -slips[slips < -EARLY_MS]
    if not len(early):
        return []
    words = (
        f"{some(len(early), 'request')} went out before they were due, by up to "
        f"{early.max():,.0f} ms"
    )
    typical = _joined([block.steady.latency[block.steady.ok] for block in stage.blocks])
    matters = len(typical) == 0 or float(early.max()) > LATE_SHARE * float(np.median(typical))
    level: Level = "INVALID" if matters and len(early) > LOST_SHARE * len(slips) else "SUSPECT"
    return [(level, f"{words}: their latency is too short")]


def _not_sent(stage: StageData) -> list[Doubt]:
    failed = [failure for block in stage.blocks for failure in block.requests.failure]
    dropped = failed.count("dropped")
    achieved = 1 - (dropped + failed.count("cancelled")) / max(len(failed), 1)
    if stage.offered_rate is not None and achieved < ACHIEVED_SHARE:
        more = f", {dropped} dropped over max_in_flight" if dropped else ""
        return [
            ("INVALID", f"{NOT_ALL_SENT} {achieved:.1%} of the offered arrivals were sent{more}")
        ]
    return [("SUSPECT", f"{dropped} arrivals were dropped over max_in_flight")] if dropped else []


def _slip(stage: StageData, limits: Limits) -> list[Doubt]:
    if late := client_late(stage):
        return [("INVALID", late)]
    slips = _joined([block.steady.slip for block in stage.blocks])
    tightest = min(
        (
            limits[name]
            for name in ("latency", "ttft")
            if name in limits and not np.isnan(limits[name])
        ),
        default=np.inf,
    )
    limit = min(SLIP_LIMIT_MS, SLIP_SLO_SHARE * tightest)
    if len(slips) and (p99 := float(np.percentile(slips, 99))) > limit:
        return [
            (
                "SUSPECT",
                f"requests went out late: schedule slip p99 is {p99:.1f} ms, and should be under "
                f"{limit:.1f} ms",
            )
        ]
    return []


def _near_ceiling(stage: StageData, ceiling: Ceiling) -> list[Doubt]:
    window_s = stage.window_s
    if not window_s:
        return []
    workers = min((block.workers for block in stage.blocks), default=1)
    loads = (
        (
            "events/s",
            sum(int(block.steady.chunks.count.sum()) for block in stage.blocks) / window_s,
            ceiling.events_per_s,
        ),
        ("requests/s", stage.timed / window_s, ceiling.requests_per_s),
        ("open streams", max(block.in_flight for block in stage.blocks), float(ceiling.streams)),
    )
    doubts: list[Doubt] = []
    for what, load, most in loads:
        if load > CEILING_SHARE * most * workers:
            beyond = (
                f"{load / (most * workers):.0%} of the calibrated {most * workers:,.0f}"
                if most
                else "and none was held"
            )
            doubts.append(
                (
                    "SUSPECT",
                    f"the load generator is near its ceiling: {load:,.0f} {what}, {beyond}; use "
                    "more workers",
                )
            )
    return doubts


def _away(stage: StageData) -> list[Doubt]:
    """The lag of the event loop. Kernel stamps ignore it; closed loops and user stamps do not."""
    doubts: list[Doubt] = []
    stall = max((block.stall_ms for block in stage.blocks), default=0.0)
    if stall > STALL_MS:
        doubts.append(("SUSPECT", f"the load generator was away from its work for {stall:.0f} ms"))
    lag = stage.by_chunk["client_lag"].mean
    service = _joined([values_in(block, "service_latency") for block in stage.blocks])
    if len(service) and (share := lag / float(np.mean(service))) > LAG_SHARE:
        doubts.append(
            (
                "SUSPECT",
                f"chunks waited {lag:.1f} ms to be read, {share:.0%} of the mean latency (client "
                "lag)",
            )
        )
    return doubts


def _token_counts(stage: StageData) -> list[Doubt]:
    """Tokens by chunk against the server's count.

    An end token is in no chunk, and now and then a token without text.
    """
    odd = counted = 0
    for block in stage.blocks:
        requests = block.requests
        known = requests.ok & ~np.isnan(requests.output_tokens)
        odd += int((miscounted(requests) & known).sum())
        counted += int(known.sum())
    if odd <= MISCOUNT_SHARE * counted:
        return []
    return [
        (
            "SUSPECT",
            f"in {odd} of {counted} answers the chunks carried another number of tokens than the "
            "server counted: no ITL",
        )
    ]


def _not_steady(stage: StageData) -> list[Doubt]:
    doubts: list[Doubt] = []
    if stage.held.value is False:
        doubts.append(("SUSPECT", f"no steady state: {stage.held.reason}"))
    elif (
        stage.held.value is None
        and stage.offered_rate is not None
        and stage.differs is None
        and stage.n
    ):
        doubts.append(
            (
                "SUSPECT",
                f"not known whether the server kept up with the offered load: {stage.held.reason}",
            )
        )
    if not stage.settling.settled:
        doubts.append(
            ("SUSPECT", "no steady state in the first half of the windows (MSER-5 on seconds)")
        )
    for block in stage.blocks:
        off = abs(counted([block], {})["little_ratio"] - 1)
        # What is under way at the ends of a window is in one side only: at most the mean time under
        # way, of its length.
        stays = block.steady.in_flight[~np.isnan(block.steady.in_flight)]
        ends = (
            float(np.mean(stays)) / 1e3 / block.window_s if len(stays) and block.window_s else 0.0
        )
        if not doubts and off > max(LITTLE_SHARE, 3 / sqrt(max(len(block.steady), 1))) + ends:
            words = (
                f"no steady state: in flight is {off:.0%} away from what Little's law expects in "
                f"block {block.number}"
            )
            doubts.append(("SUSPECT", words))
    return doubts


def _joined(parts: Sequence[Floats]) -> Floats:
    values = np.concatenate([np.empty(0), *parts])
    return np.asarray(values[~np.isnan(values)])
