"""Sends one host's part of a load, each block at its time of day."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from math import ceil

from dyno.estimates.timeline import Timeline
from dyno.experiment.from_flags.load_part import LoadPart, text_of
from dyno.pipeline.begin import begin
from dyno.pipeline.block_runner import BlockRunner
from dyno.pipeline.blocks import LoadBlock, missing_blocks
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.rounds import load_in_rounds
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.variants import write_variants
from foundation.errors import SystemFailed
from foundation.format import quantity
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from foundation.run.part import PartRecord, write_part
from loadgen.schedule.arrivals import SECOND, length_ns
from loadgen.sending.shared_start import LateStart, SharedStart
from loadgen.transport.time_of_day import TimeOfDay, kernel_bound_ns

# A block is prepared so long before it begins: workers start and connect to the server.
_LEAD_S = 3.0


async def send_part(
    prepared: Prepared, part: LoadPart, run: RunDirectory, progress: Progress
) -> None:
    """Writes the part's directory and sends its share of every block at its time.

    Raises SystemFailed where the host is late for a block, and Interrupted after Ctrl-C.
    """
    write_part(run.path, _record(part))
    begin(prepared, run, progress)
    serving = plan_serving(prepared, run)
    write_variants(prepared, run, serving)
    load = PartLoad(part, run, progress)
    await load_in_rounds(prepared, serving, run, progress, Timeline((), "cpu", progress), load)


def of_any_machine(prepared: Prepared) -> Prepared:
    """The same with journals whose identity names no machine, since several send them."""
    return replace(prepared, externals=replace(prepared.externals, machine={}))


def _record(part: LoadPart) -> PartRecord:
    return PartRecord(
        share=part.number,
        of=part.of,
        start_at=text_of(part.start),
        gap_s=part.gap_s,
        tunedyno=metadata.version("tunedyno"),
        python=platform.python_version(),
        clock_bound_ns=kernel_bound_ns(),
    )


@dataclass
class PartLoad:
    """The load of a part: its share of every block, at the block's time."""

    part: LoadPart
    run: RunDirectory
    progress: Progress
    clock: TimeOfDay = field(default_factory=TimeOfDay)
    _step_ns: int = field(default=0, init=False)

    def is_whole(self, prepared: Prepared, names: Sequence[str]) -> bool:
        """Never: a part's directory is new."""
        return False

    async def load(self, prepared: Prepared, names: Sequence[str], runner: BlockRunner) -> None:
        """Sends the part's share of all blocks, each once its time has come."""
        blocks = [
            block
            for block in missing_blocks(prepared, names, self.run)
            if isinstance(block, LoadBlock)
        ]
        starts_ns = list(self.part.starts_ns([_length_ns(block) for block in blocks]))
        self._log_clock()
        for place, (block, at_ns) in enumerate(zip(blocks, starts_ns, strict=True), start=1):
            if block.without(runner.hosting.failed) is None:
                raise runner.hosting.failed[block.variant]
            words = f"block {place} of {len(blocks)}, {_clock_time(at_ns)}"
            has_waited = await self._wait(at_ns, words)
            try:
                await runner.run([self.shared(block, at_ns)], f"{self.part.words}: {words}")
            except LateStart as late:
                which = f"{self.part.words}: block {block.block} of {block.stage.label}"
                began = f"{which} began at {_clock_time(at_ns)}"
                raise SystemFailed(
                    f"{began}, {self._late(place, late.late_s, has_waited)}"
                ) from None

    def _log_clock(self) -> None:
        bound_ns = kernel_bound_ns()
        self.progress.log(
            f"{self.part.words}: the clock of this host is "
            + (
                "not disciplined by NTP or PTP, so nobody knows how far it is off"
                if bound_ns is None
                else f"off by {quantity(bound_ns / 1e6, 'ms')} at most, by its kernel"
            )
        )

    async def _wait(self, at_ns: int, words: str) -> bool:
        """Waits until it is time to prepare a block, and shows how long that takes.

        Returns False where that time is over already.
        """
        wait_s = (at_ns - time.time_ns()) / SECOND - _LEAD_S
        if wait_s <= 0:
            return False
        self.progress.stage(f"wait for {words}", ceil(wait_s), "s")
        while (left_s := (at_ns - time.time_ns()) / SECOND - _LEAD_S) > 0:
            await asyncio.sleep(min(1.0, left_s))
            self.progress.advance(min(1.0, left_s))
        return True

    def shared(self, block: LoadBlock, at_ns: int) -> LoadBlock:
        """The part's share of a block that begins at a time of day, ns since 1970."""
        moment = self.clock.moment(at_ns)
        if self.clock.step_ns != self._step_ns:
            self._step_ns = self.clock.step_ns
            self.progress.log(
                f"warning: somebody set the time of day by {quantity(self._step_ns / 1e6, 'ms')} "
                "since this part began, so nobody knows how far its blocks lie from those of the "
                "other hosts from here on"
            )
        start = SharedStart(self.part.of, moment.monotonic_ns, moment.bound_ns)
        return replace(block, share=self.part.share, shared_start=start)

    def _late(self, place: int, late_s: float, has_waited: bool) -> str:
        """What a host says that is late for a block: by how much, and what to write."""
        late = f"and this host was ready {late_s:.1f} s late"
        if has_waited:
            return (
                f"{late}, since it took over {_LEAD_S:.0f} s to start its processes; "
                "free it from other work"
            )
        if place == 1:
            return f"{late}; write a later --start-at on all hosts"
        longer = ceil(self.part.gap_s + late_s + 1)
        return (
            f"{late}, since the answers to the block before it took longer; "
            f"write a longer --gap on all hosts, such as --gap {longer}s"
        )


def _length_ns(block: LoadBlock) -> int:
    length = length_ns(
        block.stage, block.workload.seed, block.block, block.workload.warmup, block.place
    )
    assert length is not None  # LoadPart.check refuses loads that answers end
    return length


def _clock_time(at_ns: int) -> str:
    """A time of day in UTC to the second: 10:00:00Z."""
    return datetime.fromtimestamp(at_ns / SECOND, UTC).strftime("%H:%M:%SZ")
