"""`dyno quantize`: writes the variants' checkpoints and measures what quantizing lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyno.experiment.schema import Experiment
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.opened_run import opened_run
from dyno.pipeline.training import make_adapters
from foundation.errors import BadInput


def quantize_variants(experiment: Path, out: Path, variants: Sequence[str]) -> None:
    """Writes the checkpoints of all variants, or of those named; trains their adapter first."""

    def some_are_made(whole: Experiment) -> Experiment:
        if any(v.is_made and (not variants or v.name in variants) for v in whole.variants):
            return whole
        named = f" of {', '.join(variants)}" if variants else ""
        raise BadInput(
            f"{experiment}: nothing to write: no variant{named} is merged, pruned, distilled or "
            "quantized; write merge: or quantize: in one"
        )

    with opened_run(experiment, out, variants, some_are_made) as run:
        make_adapters(run.prepared, run.directory, run.progress, variants)
        checkpoints = make_checkpoints(
            run.prepared, run.directory, run.progress, variants, recovery=True
        )
        for name, model in checkpoints.items():
            run.progress.log(f"{name}: {model.path} ({model.size_bytes() / 1e6:.0f} MB)")
