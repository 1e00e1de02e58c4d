"""Runs blocks against live servers, one at a time, and notices servers that fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dyno.estimates.timeline import BlockTimes
from dyno.pipeline.blocks import LoadBlock, MixedBlock
from dyno.pipeline.failures import ends_in_silence, fail, put_aside, put_aside_last
from dyno.pipeline.stopping import Stopping
from foundation.format import duration
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress, Silent
from foundation.run.layout import RunDirectory
from serve import Hosting, ServerFailed, TakenOver


class Interrupted(Exception):
    """Ctrl-C: the block under way was drained and its journal ended."""


@dataclass
class BlockRunner:
    """Blocks against live endpoints, one at a time, each between two looks at what the servers say of themselves."""

    hosting: Hosting
    endpoints: Mapping[str, Endpoint]
    progress: Progress
    stop: Stopping
    times: BlockTimes
    out: RunDirectory

    async def run(self, blocks: Sequence[LoadBlock | MixedBlock], what: str) -> None:
        """Raises Interrupted once a block was drained. The blocks of variants whose server failed are passed over."""
        self.progress.stage(f"load {what}", sum(block.requests for block in blocks), "requests")
        for number, block in enumerate(blocks, start=1):
            shown = _BlockProgress(
                self.progress, block.requests, f"block {number}/{len(blocks)}: {block.variant}"
            )
            self.out.check_there()
            began = time.monotonic()
            measured = await self._measure(block, shown)
            shown.done()
            if self.stop.drain.is_set():
                raise Interrupted
            if measured:
                self.times.add(
                    block.variant, block.stage.label, time.monotonic() - began, block.requests
                )
            left = [
                (each.variant, each.stage.label)
                for each in blocks[number:]
                if each.without(self.hosting.failed)
            ]
            if left and (seconds := self.times.news_of(left)) is not None:
                self.progress.log(f"load: about {duration(seconds)} left")

    async def _measure(self, block: LoadBlock | MixedBlock, shown: Progress) -> bool:
        """Measure a block; those of a mix again, without the variants whose server failed in it. False where none is left."""
        while (of := block.without(self.hosting.failed)) is not None:
            try:
                await self._attempt(of, shown)
                return True
            except ServerFailed as failure:
                variants = await self.hosting.drop(failure)
                for variant in variants:
                    put_aside_last(self.out, variant)
                fail(
                    self.out,
                    dict.fromkeys(variants, failure),
                    self.progress,
                    f"block {of.block} of {of.stage.label}",
                )
        return False

    async def _attempt(self, block: LoadBlock | MixedBlock, shown: Progress) -> None:
        """Raises ServerFailed where a server of the block failed; a block that another process may have answered is put aside."""
        variants = list(block.journals)
        await self.hosting.ready(variants)
        await self.hosting.sample()
        with self.stop.in_block():
            await guarded(
                partial(self.hosting.watch, variants),
                block.run(self.endpoints, shown, self.stop.drain),
            )
        await self.hosting.sample()
        try:
            self.hosting.check(variants)
        except TakenOver:
            for journal in block.journals.values():
                put_aside(journal)
            raise
        for variant, journal in block.journals.items():
            if not self.stop.drain.is_set() and ends_in_silence(journal):
                await self.hosting.check_answers(self.endpoints[variant])


async def guarded(watch: Callable[[], Awaitable[None]], work: Awaitable[None]) -> None:
    """`work`, ended early by whatever `watch` raises."""
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
    """A block's part of the bar: never more than was planned (a closed loop's warm-up comes on top), all of it when done."""

    def __init__(self, progress: Progress, planned: int, name: str) -> None:
        self._progress, self._left, self._name = progress, planned, name

    def advance(self, amount: float = 1, note: str = "") -> None:
        counted = min(int(amount), self._left)
        self._left -= counted
        self._progress.advance(counted, f"{self._name}, {note}" if note else "")

    def done(self) -> None:
        self._progress.advance(self._left)
        self._left = 0
