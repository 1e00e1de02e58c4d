"""`dyno load`: loads on a URL that is already serving."""

from __future__ import annotations

import time
from pathlib import Path

from dyno.commands.run import RunOutput, run_experiment
from dyno.experiment.from_flags.load_part import LoadPart, load_part
from dyno.experiment.from_flags.load_shape import LoadShape, planned_load
from dyno.experiment.from_flags.prompt_source import PromptSource
from dyno.experiment.from_flags.target import Target
from dyno.experiment.from_flags.values import checked_experiment, deadlines, objective, sampling
from dyno.experiment.schema import Experiment
from dyno.pipeline.block_runner import Interrupted
from dyno.pipeline.part import of_any_machine, send_part
from dyno.pipeline.prepare import prepare
from dyno.terminal.progress import open_console, progress_for
from foundation.errors import BadInput
from foundation.files.scratch import own_temporary_files
from foundation.format import duration
from foundation.run.layout import held_run
from loadgen.event_loop import run as run_loop
from loadgen.schedule.arrivals import SECOND
from loadgen.sending.descriptors import allow_connections

__all__ = [
    "LoadShape",
    "PromptSource",
    "Target",
    "load_experiment_for",
    "load_part",
    "load_share",
    "load_url",
]


def load_url(
    target: Target, source: PromptSource, shape: LoadShape, name: str, out: Path, *, as_json: bool
) -> None:
    """Loads a URL in a new run directory under `out`, and prints the results."""
    experiment = load_experiment_for(target, source, shape, name)
    output = RunOutput(first=planned_load(experiment), as_json=as_json)
    run_experiment(experiment, Path.cwd(), out, output=output)


def load_share(
    target: Target, source: PromptSource, shape: LoadShape, name: str, out: Path, part: LoadPart
) -> None:
    """Sends this host's part of a load in a new run directory under `out`."""
    if shape.machines is not None:
        raise BadInput("--machines: with --share each host sends its own part; leave one out")
    if target.traces is not None:
        raise BadInput("--traces: a server sends its traces to one host; leave it out with --share")
    experiment = load_experiment_for(target, source, shape, name)
    part.check(experiment, time.time_ns())
    shared = part.applied(experiment)
    console = open_console()
    with own_temporary_files(), progress_for(console) as progress, held_run(out) as folder:
        left = duration((part.start_ns - time.time_ns()) / SECOND)
        progress.log(f"{part.words} begins in {left}; {planned_load(shared)}")
        prepared = of_any_machine(prepare(shared, Path.cwd(), progress))
        allow_connections(shared.workload, 1, part.share)
        run = folder(f"{shared.name}-part-{part.number}-of-{part.of}")
        try:
            run_loop(send_part(prepared, part, run, progress))
        except (Interrupted, KeyboardInterrupt):
            progress.log(f"interrupted; what was sent is kept in {run.path}, and can't be resumed")
            raise KeyboardInterrupt from None
    lines = f"{part.words}: {run.path}\nput all parts together: dyno merge PART..."
    console.print(lines, markup=False, highlight=False, soft_wrap=True)


def load_experiment_for(
    target: Target, source: PromptSource, shape: LoadShape, name: str
) -> Experiment:
    """The experiment that measures one URL under one or several loads.

    A trace without a rate or concurrency is replayed at its recorded times.
    """
    source.check()
    shape.check(source.recording)
    max_tokens = None if source.synthetic else source.output_tokens
    extra = {"ignore_eos": True} if shape.ignore_eos else {}
    return checked_experiment(
        {
            "name": name,
            "model": target.model,
            "data": source.data_section(),
            "variants": [target.variant("url", extra)],
            "baseline": "url",
            "workload": {
                "api": target.effective_api(),
                "dataset": source.dataset() or "eval",
                "tokenizer": shape.tokenizer,
                "machines": shape.machines,
                "stages": shape.stages(source.recording),
                "blocks": shape.block_count(source.recording),
                "sampling": sampling(max_tokens, shape.seed, shape.temperature),
                **({"seed": shape.seed} if shape.seed is not None else {}),
                **({"warmup": shape.warmup} if shape.warmup is not None else {}),
                **deadlines(shape.timeout),
            },
            "slo": dict(map(objective, shape.slo)),
        }
    )
