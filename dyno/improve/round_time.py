"""How long a round takes, before it begins: by what was measured on this machine so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyno.estimates.machine_speed import stored_pace
from dyno.estimates.stages import estimate_stages, total
from dyno.experiment.schema import Experiment
from dyno.improve.measured_run import MeasuredRun, checked_run, folders_by_identity
from dyno.improve.next_round import PlannedRound
from foundation.run.journal import read_journals
from foundation.run.layout import RunDirectory
from serve.device import device_for


def round_seconds(
    planned: PlannedRound, where: Path, latest: MeasuredRun, earlier: Sequence[RunDirectory]
) -> float:
    """The seconds of a round: what it makes, the starts of its servers, and its load.

    `where`: the folder that relative paths start from. `latest`: the run whose blocks say how long
    a block takes. `earlier`: the runs whose adapters and checkpoints are not made again. Raises
    BadInput for a round that can't be run here.
    """
    making = _making_seconds(planned.experiment, where, earlier)
    return making + load_seconds(planned, latest)


def _making_seconds(experiment: Experiment, where: Path, earlier: Sequence[RunDirectory]) -> float:
    """The seconds before the load: trainings, checkpoints and starts, as estimates have them."""
    pace = stored_pace(device_for(experiment.serve).kind)
    with checked_run(experiment, where) as (prepared, plan):
        stages = estimate_stages(prepared, plan, pace, folders_by_identity(earlier))
    return total([stage for stage in stages if stage.kind != "load"]).middle


def load_seconds(planned: PlannedRound, latest: MeasuredRun) -> float:
    """The seconds of a round's blocks, each as long as the variant's blocks were in `latest`.

    A new variant counts as the one that it changes. Blocks of a mix run side by side.
    """
    journals, _ = read_journals(latest.directory.path / "load")
    spans: dict[tuple[str, str], list[float]] = defaultdict(list)
    for journal in journals:
        if journal.end is not None:
            span = journal.end.ended_ns / 1e9
            spans[journal.header.variant, journal.header.stage].append(span)
    experiment = planned.experiment
    names = [variant.name for variant in experiment.variants]
    blocks = {
        stage.label: experiment.workload.blocks / (len(names) if stage.mix else 1)
        for stage in experiment.workload.stages
    }
    blocks |= {f"probe-{probe.name}": 1 for probe in experiment.quality.probes}
    changed = planned.record.variant
    return sum(
        count * float(np.mean(spans.get((name, label)) or spans.get((changed, label)) or [0.0]))
        for name in names
        for label, count in blocks.items()
    )
