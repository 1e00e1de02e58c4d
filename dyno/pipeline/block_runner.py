"""Runs blocks on live servers, one at a time, and handles servers that fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dyno.estimates.timeline import BlockTimes
from dyno.pipeline.blocks import LoadBlock, MixedBlock
from dyno.pipeline.failures import (
    ends_without_server,
    put_aside,
    put_aside_last,
    record_failures,
)
from dyno.pipeline.stopping import Stopping
from foundation.format import duration
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress, Silent
from foundation.run.layout import RunDirectory
from loadgen.sending.nodes.node import Node
from serve import Hosting, ServerFailed, TakenOver


class Interrupted(Exception):
    """Ctrl-C ended the run after the current block was drained and its journal written."""


class TimeOver(Interrupted):
    """The time was over before a block began; those before it are whole."""


@dataclass
class BlockRunner:
    """Runs blocks on live endpoints, one at a time, with servers' telemetry before and after each.

    `endpoints`: by variant. `nodes`: the machines that send, none where this one does.
    """

    hosting: Hosting
    endpoints: Mapping[str, Endpoint]
    progress: Progress
    stop: Stopping
    times: BlockTimes
    out: RunDirectory
    nodes: Sequence[Node] = ()

    async def run(
        self,
        blocks: Sequence[LoadBlock | MixedBlock],
        what: str,
        later: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Runs blocks in order, less those of variants whose server failed.

        `what`: their name on the progress bar. `later`: variant and stage of the blocks that may
        follow. Raises Interrupted after a block was drained, and TimeOver before a late one.
        """
        self.progress.stage(f"load {what}", sum(block.requests for block in blocks), "requests")
        for number, block in enumerate(blocks, start=1):
            if self.stop.is_over:
                raise TimeOver
            name = f"block {number}/{len(blocks)}: {block.variant}"
            progress = _BlockProgress(self.progress, block.requests, name)
            self.out.check_there()
            start = time.monotonic()
            is_measured = await self._measure(block, progress)
            progress.done()
            if self.stop.drain.is_set():
                raise Interrupted
            if is_measured:
                seconds = time.monotonic() - start
                self.times.add(block.variant, block.stage.label, seconds, block.requests)
            left = [
                (each.variant, each.stage.label)
                for each in blocks[number:]
                if each.without(self.hosting.failed)
            ]
            left += [kind for kind in later if kind[0] not in self.hosting.failed]
            if left and (seconds_left := self.times.first_prediction(left)) is not None:
                most = "at most about" if later else "about"
                self.progress.log(f"load: {most} {duration(seconds_left)} left")

    async def _measure(self, block: LoadBlock | MixedBlock, progress: Progress) -> bool:
        """Measures a block; False if all its servers failed.

        If a server of a mix fails, measures the mix again without its variants.
        """
        while (remaining := block.without(self.hosting.failed)) is not None:
            try:
                await self._attempt(remaining, progress)
                return True
            except ServerFailed as failure:
                variants = await self.hosting.drop(failure)
                for variant in variants:
                    put_aside_last(self.out, variant)
                where = f"block {remaining.block} of {remaining.stage.label}"
                failures = dict.fromkeys(variants, failure)
                record_failures(self.out, failures, self.progress, where)
        return False

    async def _attempt(self, block: LoadBlock | MixedBlock, progress: Progress) -> None:
        """Measures a block once. Raises ServerFailed if one of its servers failed.

        Puts the journal aside if another process may have answered on the server's port.
        """
        variants = list(block.journals)
        await self.hosting.ready(variants)
        await self.hosting.sample()
        with self.stop.in_block():
            await guarded(
                partial(self.hosting.watch, variants),
                block.run(self.endpoints, progress, self.stop.drain, self.nodes),
            )
        await self.hosting.sample()
        try:
            self.hosting.check(variants)
        except TakenOver:
            for journal in block.journals.values():
                put_aside(journal)
            raise
        for variant, journal in block.journals.items():
            if not self.stop.drain.is_set() and ends_without_server(journal):
                await self.hosting.check_answers(self.endpoints[variant])


async def guarded(watch: Callable[[], Awaitable[None]], work: Awaitable[None]) -> None:
    """Awaits `work`; if `watch` raises first, cancels the work and raises that error."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(watch())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if watching.done() and not working.done():
            await watching
        await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


class _BlockProgress(Silent):
    """A block's part of the bar: at most its planned requests, and all of them at its end.

    A closed loop's warm-up sends more requests than planned.
    """

    def __init__(self, progress: Progress, planned: int, name: str) -> None:
        self._progress, self._left, self._name = progress, planned, name

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Adds finished requests, up to those planned."""
        counted = min(int(amount), self._left)
        self._left -= counted
        self._progress.advance(counted, f"{self._name}, {note}" if note else "")

    def done(self) -> None:
        """Adds the requests that are missing from the planned ones."""
        self._progress.advance(self._left)
        self._left = 0
