"""`dyno quantize`: writes the variants' checkpoints and measures what quantizing lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.opened_run import opened_run
from dyno.pipeline.training import make_adapters


def quantize_variants(experiment: Path, out: Path, variants: Sequence[str]) -> None:
    """Writes the checkpoints of all variants, or of those named; trains their adapter first."""
    with opened_run(experiment, out, variants) as run:
        make_adapters(run.prepared, run.directory, run.progress, variants)
        checkpoints = make_checkpoints(
            run.prepared, run.directory, run.progress, variants, recovery=True
        )
        for name, model in checkpoints.items():
            run.progress.log(f"{name}: {model.path} ({model.size_bytes() / 1e6:.0f} MB)")
