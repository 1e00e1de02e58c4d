"""`dyno serve`: the variants' servers, up until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import serve
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from dyno.pipeline.stopping import handled
from dyno.terminal.signals import ENDING
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from loadgen import reach
from loadgen.event_loop import run
from serve import Hosting


def keep_up(
    prepared: Prepared, directory: RunDirectory, progress: Progress, only: Sequence[str]
) -> None:
    """Serve all variants (or those named) until Ctrl-C, SIGTERM or SIGHUP. Raises SystemFailed where a server dies."""
    wanted = [
        served_variant(prepared, v, directory)
        for v in prepared.experiment.variants
        if not only or v.name in only
    ]
    plan = serve.check(
        wanted, prepared.experiment.serve.model_copy(update={"residency": "resident"})
    )
    run(_keep_up(plan, prepared, directory, progress))


async def _keep_up(
    plan: serve.ServePlan, prepared: Prepared, directory: RunDirectory, progress: Progress
) -> None:
    experiment = prepared.experiment
    answers = partial(reach, workload=experiment.workload, log=progress.log)
    hosting = Hosting(plan, experiment.serve, directory.logs, progress, answers)
    async with hosting.round(plan.rounds[0]) as endpoints:
        for endpoint in endpoints.values():
            progress.log(f"{endpoint.variant}:\n  {serve.curl_line(endpoint)}")
        progress.stage("serving; Ctrl-C stops", None, "")
        watching = asyncio.ensure_future(hosting.watch())
        with handled(dict.fromkeys(ENDING, watching.cancel)), suppress(asyncio.CancelledError):
            await watching
