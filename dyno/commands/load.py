"""`dyno load`: a load on a URL that is already serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dyno.commands.run import Shown, run_experiment
from dyno.experiment.from_flags.load_shape import LoadShape, plan_in_words
from dyno.experiment.from_flags.prompt_source import PromptSource
from dyno.experiment.from_flags.target import Target
from dyno.experiment.from_flags.values import checked_experiment, deadlines, objective
from dyno.experiment.schema import Experiment

__all__ = ["LoadShape", "PromptSource", "Target", "load_experiment_for", "load_url"]


def load_url(
    target: Target, source: PromptSource, shape: LoadShape, name: str, out: Path, *, as_json: bool
) -> None:
    """Loads a URL in a new run directory under `out`, and prints what was measured."""
    experiment = load_experiment_for(target, source, shape, name)
    shown = Shown(first=plan_in_words(experiment), as_json=as_json)
    run_experiment(experiment, Path.cwd(), out, shown=shown)


def load_experiment_for(
    target: Target, source: PromptSource, shape: LoadShape, name: str
) -> Experiment:
    """One URL under one load or several. A trace without rate and concurrency is replayed at its own times."""
    source.check()
    shape.check(source.recording)
    api = target.asked_api()
    sampling: dict[str, Any] = {} if source.synthetic else {"max_tokens": source.output_tokens}
    sampling |= {"seed": shape.seed} if shape.seed is not None else {}
    sampling |= {"temperature": shape.temperature} if shape.temperature is not None else {}
    extra = {"ignore_eos": True} if shape.ignore_eos else {}
    return checked_experiment(
        {
            "name": name,
            "model": target.model,
            "data": source.data_section(),
            "variants": [target.variant("url", extra)],
            "baseline": "url",
            "workload": {
                "api": api,
                "dataset": source.dataset() or "eval",
                "tokenizer": shape.tokenizer,
                "stages": shape.stages(source.recording),
                "blocks": shape.block_count(source.recording),
                "sampling": sampling,
                **({"seed": shape.seed} if shape.seed is not None else {}),
                **({"warmup": shape.warmup} if shape.warmup is not None else {}),
                **deadlines(shape.timeout),
            },
            "slo": dict(map(objective, shape.slo)),
        }
    )
