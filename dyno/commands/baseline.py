"""`dyno baseline`: one prompt, sent to a model or URL one request at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dyno.commands.run import RunOutput, run_experiment
from dyno.experiment.from_flags.load_shape import BLOCKS, planned_load
from dyno.experiment.from_flags.target import Target, model_or_target
from dyno.experiment.from_flags.values import (
    check_counts,
    checked_experiment,
    deadlines,
    sampling,
)
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput

__all__ = ["BaselineRequests", "Target", "baseline_experiment", "measure_baseline"]


@dataclass(frozen=True, kw_only=True)
class BaselineRequests:
    """The requests of `dyno baseline`: one prompt, one request at a time, divided among blocks."""

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
    """Measures a model or URL in a new run directory under `out`, and prints the results."""
    experiment = baseline_experiment(model_or_target(target), requests, name)
    output = RunOutput(first=planned_load(experiment), excerpt=True, as_json=as_json)
    run_experiment(experiment, Path.cwd(), out, output=output)


def baseline_experiment(subject: str | Target, requests: BaselineRequests, name: str) -> Experiment:
    """The experiment that sends `requests` to a model or URL, one at a time."""
    check_counts(
        {
            "--requests": requests.requests,
            "--blocks": requests.blocks,
            "--output-tokens": requests.output_tokens,
        }
    )
    blocks = requests.blocks or min(BLOCKS, requests.requests)
    if blocks > requests.requests:
        raise BadInput(
            f"--blocks: {blocks} blocks need {blocks} requests, "
            f"and --requests says {requests.requests}"
        )
    variant: dict[str, object]
    if isinstance(subject, Target):
        api, model = subject.effective_api(), subject.model
        variant = subject.variant("baseline", {})
    else:
        api, model, variant = "chat", subject, {"name": "baseline"}
    return checked_experiment(
        {
            "name": name,
            "model": model,
            "data": {"prompt": requests.prompt},
            "variants": [variant],
            "baseline": "baseline",
            # The server must compute the one prompt each time, as it would a user's first question.
            "serve": {"engine": {"enable-prefix-caching": False}},
            "workload": {
                "api": api,
                "stages": [_stage(requests.requests, blocks)],
                "blocks": blocks,
                "sampling": sampling(requests.output_tokens, requests.seed, requests.temperature),
                **deadlines(requests.timeout),
            },
        }
    )


def _stage(requests: int, blocks: int) -> dict[str, object]:
    """The stage that sends `requests` in all blocks together, one at a time."""
    per_block, one_more_in = divmod(requests, blocks)
    return {
        "name": "one-at-a-time",
        "concurrency": 1,
        "requests": per_block,
        "one_more_in": one_more_in,
        "warmup": "0s",
    }
