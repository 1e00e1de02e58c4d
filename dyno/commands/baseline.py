"""`dyno baseline`: one model or URL, asked one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno.commands.run import Shown, run_experiment
from dyno.experiment.from_flags.load_shape import BLOCKS, plan_in_words
from dyno.experiment.from_flags.target import Target, model_or_target
from dyno.experiment.from_flags.values import check_counts, checked_experiment, deadlines
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput

__all__ = ["BaselineRequests", "Target", "baseline_experiment", "measure_baseline"]


@dataclass(frozen=True, kw_only=True)
class BaselineRequests:
    """What `dyno baseline` asks, one request at a time, divided among blocks."""

    prompt: str
    requests: int = 20
    blocks: int | None = None
    output_tokens: int = 128
    temperature: float | None = None
    seed: int | None = None
    timeout: str | None = None


def measure_baseline(
    target: Target, requests: BaselineRequests, name: str, out: Path, *, as_json: bool
) -> None:
    """Measures a model or URL in a new run directory under `out`, and prints what was measured."""
    experiment = baseline_experiment(model_or_target(target), requests, name)
    shown = Shown(first=plan_in_words(experiment), excerpt=True, as_json=as_json)
    run_experiment(experiment, Path.cwd(), out, shown=shown)


def baseline_experiment(subject: str | Target, wanted: BaselineRequests, name: str) -> Experiment:
    """One model or URL, asked one thing at a time."""
    check_counts(
        {
            "--requests": wanted.requests,
            "--blocks": wanted.blocks,
            "--output-tokens": wanted.output_tokens,
        }
    )
    blocks = wanted.blocks or min(BLOCKS, wanted.requests)
    if blocks > wanted.requests:
        raise BadInput(
            f"--blocks: {blocks} blocks need {blocks} requests, and --requests says {wanted.requests}"
        )
    requests, more = divmod(wanted.requests, blocks)
    sampling: dict[str, Any] = {"max_tokens": wanted.output_tokens}
    sampling |= {"seed": wanted.seed} if wanted.seed is not None else {}
    sampling |= {"temperature": wanted.temperature} if wanted.temperature is not None else {}
    if isinstance(subject, Target):
        api, model = subject.asked_api(), subject.model
        variant = subject.variant("baseline", {})
    else:
        api, model, variant = "chat", subject, {"name": "baseline"}
    stage = {
        "name": "one-at-a-time",
        "concurrency": 1,
        "requests": requests,
        "one_more_in": more,
        "warmup": "0s",
    }
    return checked_experiment(
        {
            "name": name,
            "model": model,
            "data": {"prompt": wanted.prompt},
            "variants": [variant],
            "baseline": "baseline",
            # The one prompt must be read anew each time, as a user's first question would be.
            "serve": {"engine": {"enable-prefix-caching": False}},
            "workload": {
                "api": api,
                "stages": [stage],
                "blocks": blocks,
                "sampling": sampling,
                **deadlines(wanted.timeout),
            },
        }
    )
