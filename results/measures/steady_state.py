"""The part of a journal that counts, and what a careful person would doubt about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats
from foundation.run.chunks import CHUNK_TIMES
from foundation.run.journal import Damage, Journal
from foundation.run.pooled_times import Statistics, Times, pooled, statistics_of
from foundation.run.records import RouterKind
from foundation.run.requests import Requests
from results.measures.doubt import Doubt, some
from results.measures.saturation import HeldLoad, held
from results.measures.window import NOTHING_CUT, Settling, latest, window_of
from results.metrics import QUANTILES

# How far arrivals may be from the rate that the journals name: a factor, and standard deviations of
# a Poisson count.
UNLIKE, BY_CHANCE = 1.5, 5.0


@dataclass(frozen=True)
class LeftOut:
    """Requests outside a block's window, which no number holds.

    `warm_up` came before it, `ramp_down` after it; `failed` of them failed.
    """

    warm_up: int = 0
    ramp_down: int = 0
    failed: int = 0


@dataclass(frozen=True)
class BlockTrace:
    """Every request of a journal, warm-up and all, for the timeline: ms from `origin_unix_ns`.

    When it was due, how long its answer took (NaN where there is none), and whether it succeeded;
    `end` is the last chunk's. `origin_monotonic_ns` is the same moment on CLOCK_MONOTONIC.
    """

    origin_unix_ns: int
    origin_monotonic_ns: int
    due: Floats
    latency: Floats
    ok: NDArray[np.bool_]

    @property
    def end(self) -> float:
        """The moment of the last chunk, ms."""
        return float(np.fmax(self.due + self.latency, self.due).max(initial=0.0))


@dataclass(frozen=True)
class StageBlock:
    """One journal's window: what is counted, and its steady part: what is timed.

    `requests` are those scheduled inside the window: failures, tokens and answers are counted over
    all of them. `steady` are those scheduled from `steady_ms` on, after what `settling_of` cut:
    times are of these. The steady part is `window_s` long. `completed`, `output_tokens` and
    `total_tokens` count what ended well inside it, whenever it began, and `ended` what ended there
    in any way; `in_flight` is the mean number under way. `stall_ms`: the longest time that the load
    generator, of `workers` processes, was away from its work. `span` is when it began and ended,
    warm-up and drain and all, in Unix seconds; zeros where the journal does not say. `window_ms` is
    the whole window; `left_out` says what lies outside it, `trace` has it too. `missing` are the
    planned requests that left no record, `surplus` the records of none, `clock_step_ms` is how far
    the clock of the chunks was set meanwhile. `clock_bound_ns` is how far the origins of its
    `machines` may lie apart, None where nobody knows it. `cut_off`: its journal has no end line, or
    an interrupted one. `replicas`: how many servers answered, chosen by `router`; `accelerators`:
    of one of them, None where that is not known.
    """

    number: int
    seed: int
    window_s: float
    requests: Requests
    completed: int
    ended: int
    output_tokens: float
    total_tokens: float
    in_flight: float
    notes: Sequence[str]
    stall_ms: float = 0.0
    workers: int = 1
    span: tuple[float, float] = (0.0, 0.0)
    steady_ms: float = -inf
    window_ms: tuple[float, float] = (-inf, inf)
    left_out: LeftOut = LeftOut()
    trace: BlockTrace | None = None
    missing: int = 0
    surplus: int = 0
    clock_step_ms: float = 0.0
    machines: int = 1
    clock_bound_ns: int | None = None
    cut_off: bool = False
    replicas: int = 1
    router: RouterKind | None = None
    accelerators: int | None = None

    @property
    def replica_s(self) -> float:
        """The seconds of the steady part, of all replicas together."""
        return self.replicas * self.window_s

    @cached_property
    def steady(self) -> Requests:
        """The requests of the steady part."""
        return self.requests.where(self.requests.scheduled >= self.steady_ms)

    @cached_property
    def by_chunk(self) -> Mapping[str, Statistics]:
        """Of the times of single chunks and tokens of the answers in the steady part."""
        return _by_chunk([self])


@dataclass(frozen=True)
class StageData:
    """One variant under one offered load: its blocks, in order.

    `settling`: when its blocks became steady.
    `damage`: the damaged lines of its journals, which no number includes.
    `findings`: other doubts from reading the journals.
    `differs`: why its blocks are not of one offered load, if they are not.
    `sessions`: whether conversations of several requests arrive instead of single requests.
    `begun`: the sessions that began in the steady part of each block.
    `arrivals`: the arrival process in its journals.
    """

    stage: str
    offered_rate: float | None
    concurrency: int | None
    blocks: Sequence[StageBlock]
    settling: Settling = NOTHING_CUT
    damage: Sequence[Damage] = ()
    findings: Sequence[Doubt] = ()
    differs: str | None = None
    sessions: bool = False
    begun: Sequence[int] = ()
    arrivals: str = ""

    @property
    def n(self) -> int:
        """Requests that are counted."""
        return sum(len(block.requests) for block in self.blocks)

    @property
    def timed(self) -> int:
        """Requests of the steady parts."""
        return sum(len(block.steady) for block in self.blocks)

    @cached_property
    def by_chunk(self) -> Mapping[str, Statistics]:
        """Of the times of single chunks and tokens of all answers in the steady parts."""
        return _by_chunk(self.blocks)

    @property
    def succeeded(self) -> int:
        """Counted requests that succeeded."""
        return sum(int(block.requests.ok.sum()) for block in self.blocks)

    @cached_property
    def held(self) -> HeldLoad:
        """Whether the offered load was held, and why not."""
        if reason := self.differs or _unlike_offered(self):
            return HeldLoad(None, reason, nan)
        return held([block.steady for block in self.blocks], self.offered_rate is not None)

    @property
    def window_s(self) -> float:
        """The length of the steady parts together, in seconds."""
        return sum(block.window_s for block in self.blocks)

    @property
    def replicas(self) -> int:
        """How many servers answered; blocks of other numbers are not of one load (`differs`)."""
        return self.blocks[0].replicas if self.blocks else 1

    @property
    def router(self) -> RouterKind | None:
        """Who chose a replica for each request; None for one server."""
        return self.blocks[0].router if self.blocks else None


def _by_chunk(blocks: Sequence[StageBlock]) -> dict[str, Statistics]:
    times = {name: chunk_times(blocks, name) for name in CHUNK_TIMES}
    statistics = {
        name: statistics_of(times[name], QUANTILES) for name in CHUNK_TIMES if name != "itl"
    }
    return statistics | {
        "itl": statistics["icl"]
        if times["itl"].same_as(times["icl"])
        else statistics_of(times["itl"], QUANTILES)
    }


def chunk_times(blocks: Sequence[StageBlock], name: str) -> Times:
    """The times of chunks or tokens, of one kind, of the answers in the steady parts of blocks."""
    parts = [
        (b.requests.chunks, b.requests.ok & (b.requests.scheduled >= b.steady_ms)) for b in blocks
    ]
    return pooled([chunks.times(name, of) for chunks, of in parts])


def _unlike_offered(stage: StageData) -> str | None:
    """Why the rate in the headers is not that of the arrivals, None where it is.

    Bursts make windows differ from their mean.
    """
    seconds = sum(block.window_ms[1] - block.window_ms[0] for block in stage.blocks) / 1e3
    if stage.offered_rate is None or stage.sessions or not isfinite(seconds) or not seconds > 0:
        return None
    expected = stage.offered_rate * seconds
    ratio = stage.n / expected
    if 1 / UNLIKE <= ratio <= UNLIKE or abs(stage.n - expected) <= BY_CHANCE * sqrt(expected):
        return None
    return (
        f"{stage.n / seconds:.3g} requests/s arrived, and the journals say that "
        f"{stage.offered_rate:g} were offered"
    )


def block_of(journal: Journal, cut_ns: int = 0, following: Set[str] = frozenset()) -> StageBlock:
    """A journal's window, whose steady part begins `cut_ns` (`settling_of`) later.

    `following`: the prompts that go on with a session that another began.
    """
    window_start, end = window_of(journal)
    start = window_start + cut_ns
    everything = journal.requests
    low, high = start / 1e6, end / 1e6
    before, after = everything.scheduled < window_start / 1e6, everything.scheduled >= high
    inside = (everything.done >= low) & (everything.done < high)
    completed = inside & everything.ok
    beyond = _beyond_plan(journal, following)
    short = _short_of_plan(journal, before, following) + beyond
    return StageBlock(
        number=journal.header.block,
        seed=journal.header.seed,
        window_s=max(0.0, (end - start) / 1e9),
        requests=everything.where(~before & ~after),
        completed=int(completed.sum()),
        ended=int(inside.sum()),
        output_tokens=float(everything.output_tokens[completed].sum()),
        total_tokens=float(everything.total_tokens[completed].sum()),
        in_flight=_mean_in_flight(everything.sent, everything.done, low, high),
        notes=_block_notes(journal),
        stall_ms=journal.end.loop_stall_max_ns / 1e6 if journal.end else 0.0,
        workers=journal.header.workers,
        span=_span(journal),
        steady_ms=low if cut_ns else -inf,
        window_ms=(window_start / 1e6, high),
        left_out=LeftOut(
            int(before.sum()), int(after.sum()), int((~everything.ok & (before | after)).sum())
        ),
        trace=BlockTrace(
            journal.header.origin_unix_ns,
            journal.header.origin_monotonic_ns,
            everything.scheduled,
            everything.latency,
            everything.ok,
        ),
        missing=max(0, short - len(journal.damage)),
        surplus=beyond + max(0, -short),
        clock_step_ms=_clock_step_ms(journal),
        machines=journal.header.machines,
        clock_bound_ns=journal.header.clock_bound_ns,
        cut_off=journal.end is None or journal.end.end == "interrupted",
        replicas=journal.header.replicas,
        router=journal.header.router,
    )


def _short_of_plan(journal: Journal, warm_up: NDArray[np.bool_], following: Set[str]) -> int:
    """Planned requests less those with a record; of sessions, of their first turns.

    An open loop plans its warm-up too. Below 0: there are more records than were planned.
    """
    header, requests = journal.header, journal.requests
    if header.planned is None:
        return 0
    planned = requests if header.concurrency is None else requests.where(~warm_up)
    return header.planned - sum(prompt not in following for prompt in planned.prompt_id)


def _beyond_plan(journal: Journal, following: Set[str]) -> int:
    """Records of an open loop, of no sessions, that are none of its planned arrivals."""
    header = journal.header
    if header.planned is None or header.concurrency is not None or following:
        return 0
    return int((journal.requests.id >= header.planned).sum())


def _clock_step_ms(journal: Journal) -> float:
    """How far the clock of the chunks was set, by its end line.

    On one machine only the kernel's can be. Of several, one's CLOCK_MONOTONIC can go astray too.
    """
    is_settable = journal.header.clock == "kernel" or journal.header.machines > 1
    return abs(journal.end.clock_step_ns) / 1e6 if journal.end and is_settable else 0.0


def _span(journal: Journal) -> tuple[float, float]:
    began = journal.header.origin_unix_ns
    if not began:
        return 0.0, 0.0
    ended = journal.end.ended_ns if journal.end is not None else latest(journal.requests.done_ns)
    return began / 1e9, (began + ended) / 1e9


def _mean_in_flight(sent: Floats, done: Floats, low: float, high: float) -> float:
    """The number of requests under way, averaged over the window."""
    if high <= low:
        return float("nan")
    overlap = np.clip(np.minimum(done, high) - np.maximum(sent, low), 0, None)
    return float(np.nansum(overlap)) / (high - low)


def _block_notes(journal: Journal) -> list[str]:
    header, end, n = journal.header, journal.end, len(journal.requests)
    notes = []
    if end is None:
        notes.append(f"block {header.block} was cut off after {some(n, 'request')}; they are used")
    elif end.end == "interrupted":
        notes.append(
            f"block {header.block} was interrupted after {some(n, 'request')}; they are used"
        )
    return notes
