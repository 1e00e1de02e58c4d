"""`dyno serve`: keeps the variants' servers up until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import serve
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.opened_run import OpenedRun, opened_run
from dyno.pipeline.serving import served_variant
from dyno.pipeline.stopping import handled
from dyno.pipeline.training import make_adapters
from dyno.terminal.signals import ENDING
from loadgen import reach
from loadgen.event_loop import run as run_loop
from serve import Hosting, ServerFolders


def serve_variants(experiment: Path, out: Path, variants: Sequence[str]) -> None:
    """Serves all variants, or those named, until Ctrl-C, SIGTERM or SIGHUP.

    Trains and writes missing checkpoints first. Raises SystemFailed if a server dies.
    """
    with opened_run(experiment, out, variants) as run:
        make_adapters(run.prepared, run.directory, run.progress, variants)
        make_checkpoints(run.prepared, run.directory, run.progress, variants)
        variants_to_serve = [
            served_variant(run.prepared, variant, run.directory)
            for variant in run.prepared.experiment.variants
            if not variants or variant.name in variants
        ]
        config = run.prepared.experiment.serve.model_copy(update={"residency": "resident"})
        run_loop(_keep_up(serve.check(variants_to_serve, config), run))


async def _keep_up(plan: serve.ServePlan, run: OpenedRun) -> None:
    experiment, progress = run.prepared.experiment, run.progress
    answers = partial(reach, workload=experiment.workload, log=progress.log)
    hosting = Hosting(plan, ServerFolders(run.directory.logs), progress, answers)
    async with hosting.round(plan.rounds[0]) as endpoints:
        for endpoint in endpoints.values():
            lines = "\n  ".join(map(serve.curl_line, endpoint.replicas))
            progress.log(f"{endpoint.variant}:\n  {lines}")
        progress.stage("serving; Ctrl-C stops", None, "")
        watching = asyncio.ensure_future(hosting.watch())
        with handled(dict.fromkeys(ENDING, watching.cancel)), suppress(asyncio.CancelledError):
            await watching
