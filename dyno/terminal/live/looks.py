"""Looks at a run whose blocks are still being measured: the verdict as it forms.

A look analyses and judges the whole blocks as the end of the run does. It decides nothing.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dyno.experiment.loading import load_experiment
from dyno.pipeline.decide import run_inputs
from dyno.terminal.live.view import Look, VariantView
from foundation.run.layout import RunDirectory
from results.analysis import analyse
from results.decision.verdict import judge
from results.race import Departure, Race
from results.statistics.intervals import absent
from results.summary import VariantSummary, VariantVerdict

_END = b'{"end":"complete"'
_LONGEST_END = 4096  # bytes that surely hold the last line of a journal


class RunLooks:
    """The looks at one run. Raises BadInput if its experiment can't be read."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._experiment = load_experiment(run.experiment)
        self._whole: list[Path] = []

    def next(self) -> Look | None:
        """The variants after all whole blocks of the judged stage.

        None without a new one, and as long as the baseline has none.
        """
        if not (new := self._new_journals()):
            return None
        self._whole += new
        names = {journal.parents[1].name for journal in self._whole}
        if self._experiment.baseline not in names:
            return None
        with tempfile.TemporaryDirectory() as folder:
            part = self._whole_part(Path(folder))
            inputs = run_inputs(part, self._experiment)
            inputs = replace(inputs, variants=[v for v in inputs.variants if v.name in names])
            summary = analyse(inputs)
            verdicts = judge(summary, inputs).variants
        rows = zip(summary.variants, verdicts, strict=True)
        race = inputs.race or Race()
        return Look(
            len(self._whole),
            [_row(variant, verdict, race.departure(variant.variant)) for variant, verdict in rows],
        )

    def _new_journals(self) -> list[Path]:
        known, stage = set(self._whole), self._experiment.judged_stage
        folders = [
            self._run.journal(variant.name, stage, 1).parent
            for variant in self._experiment.variants
        ]
        files = [file for folder in folders for file in sorted(folder.glob("block-*.jsonl"))]
        return [file for file in files if file not in known and _has_ended(file)]

    def _whole_part(self, folder: Path) -> RunDirectory:
        """The run as links in `folder`, without the block that is being written."""
        part = RunDirectory(folder)
        run = self._run
        files = [run.prompts, run.variants, run.environment, run.rates, run.race]
        for file in [*(file for file in files if file.exists()), *self._whole]:
            link = folder / file.relative_to(run.path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
        return part


def _has_ended(journal: Path) -> bool:
    """Whether the journal's last line says that its block is complete."""
    with suppress(OSError), journal.open("rb") as stream:
        stream.seek(max(0, journal.stat().st_size - _LONGEST_END))
        return stream.read().rstrip().rpartition(b"\n")[2].startswith(_END)
    return False


def _row(
    variant: VariantSummary, verdict: VariantVerdict, departure: Departure | None
) -> VariantView:
    stage, nothing = variant.at_judged_stage, absent("not measured")
    metrics = stage.metrics if stage else {}
    deciding = next((o.sentence for o in verdict.objectives if o.label == verdict.binding), "")
    reason = f"left the race: {departure.sentence}" if departure else deciding
    return VariantView(
        name=variant.variant,
        requests=stage.succeeded if stage else 0,
        p50=metrics.get("latency_p50", nothing),
        p95=metrics.get("latency_p95", nothing),
        quality=variant.metrics.get("quality", nothing),
        decision=verdict.decision,
        reason=reason.partition(";")[0],
        has_left=departure is not None,
    )
