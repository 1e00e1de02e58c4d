"""`dyno load`: loads on a URL that is already serving."""

from __future__ import annotations

from pathlib import Path

from dyno.commands.run import RunOutput, run_experiment
from dyno.experiment.from_flags.load_shape import LoadShape, planned_load
from dyno.experiment.from_flags.prompt_source import PromptSource
from dyno.experiment.from_flags.target import Target
from dyno.experiment.from_flags.values import checked_experiment, deadlines, objective, sampling
from dyno.experiment.schema import Experiment

__all__ = ["LoadShape", "PromptSource", "Target", "load_experiment_for", "load_url"]


def load_url(
    target: Target, source: PromptSource, shape: LoadShape, name: str, out: Path, *, as_json: bool
) -> None:
    """Loads a URL in a new run directory under `out`, and prints the results."""
    experiment = load_experiment_for(target, source, shape, name)
    output = RunOutput(first=planned_load(experiment), as_json=as_json)
    run_experiment(experiment, Path.cwd(), out, output=output)


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
