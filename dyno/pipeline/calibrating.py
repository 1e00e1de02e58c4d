"""Starts the servers of variants, a round at a time, to measure their step times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from dyno.pipeline.block_runner import guarded
from dyno.pipeline.blocks import LoadBlock, warm_up_blocks
from dyno.pipeline.loaded_servers import LoadedServers
from dyno.pipeline.modelling import measure_models
from dyno.pipeline.opened_run import OpenedRun
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.stopping import handled
from dyno.terminal.signals import ENDING
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress, Silent
from foundation.run.layout import RunDirectory
from results.capacity.model.record import VariantModel
from serve import Hosting, ServerFolders


async def calibrate_variants(
    run: OpenedRun, names: Sequence[str], budget_s: float
) -> dict[str, VariantModel]:
    """The models of variants, each from loads of `budget_s` seconds; keeps them in `model.json`.

    Raises SystemFailed where a server fails, and KeyboardInterrupt. Whole journals stay.
    """
    task = asyncio.current_task()
    assert task is not None
    try:
        with handled(dict.fromkeys(ENDING, task.cancel)):
            return await _by_round(run, names, budget_s)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _by_round(
    run: OpenedRun, names: Sequence[str], budget_s: float
) -> dict[str, VariantModel]:
    prepared, out, progress = run.prepared, run.directory, run.progress
    plan = plan_serving(prepared, out)
    folders = ServerFolders(out.logs, engine=out.engine)
    servers = LoadedServers.of(prepared, plan, folders, progress)
    models: dict[str, VariantModel] = {}
    for each in plan.rounds:
        if not (wanted := [name for name in each if name in names]):
            continue
        with servers.on_load_cores():
            async with servers.hosting.round(wanted) as endpoints:
                sender = _Sender(run, servers.hosting, endpoints)
                for block in warm_up_blocks(prepared, wanted, RunDirectory(out.model)):
                    await sender.send(block, Silent())
                models |= await measure_models(
                    prepared, wanted, out, sender.measure, progress, budget_s
                )
    return models


class _Sender:
    """Sends blocks to servers that are watched meanwhile."""

    def __init__(self, run: OpenedRun, hosting: Hosting, endpoints: Mapping[str, Endpoint]) -> None:
        self._run, self._hosting, self._endpoints = run, hosting, endpoints

    async def measure(self, block: LoadBlock) -> None:
        """Sends a block with a progress bar of its own."""
        progress = self._run.progress
        progress.stage(f"{block.variant}, {block.stage.label}", block.requests, "requests")
        await self.send(block, progress)

    async def send(self, block: LoadBlock, progress: Progress) -> None:
        """Sends a block and writes its journal. Raises ServerFailed if the server fails."""
        names = [block.variant]
        await self._hosting.ready(names)
        await guarded(
            partial(self._hosting.watch, names),
            block.run(self._endpoints, progress, asyncio.Event()),
        )
