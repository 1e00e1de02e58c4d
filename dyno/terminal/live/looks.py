"""Looks at a run whose blocks are still being measured: the verdict as it forms.

A look analyses and judges the whole blocks as the end of the run does. It decides nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec

from dyno.experiment.loading import load_experiment
from dyno.pipeline.decide import run_inputs
from dyno.terminal.live.view import Look, VariantView
from foundation.run.journal import UNREADABLE
from foundation.run.layout import RunDirectory
from foundation.run.records import JournalEnd
from results.analysis import analyse
from results.decision.verdict import judge
from results.inputs import RunInputs
from results.race import Race
from results.statistics.intervals import absent
from results.summary import VariantSummary, VariantVerdict

_LONGEST_END = 4096  # bytes that surely hold the last line of a journal


class RunLooks:
    """The looks at one run. Raises BadInput if its experiment can't be read."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._experiment = load_experiment(run.experiment)
        self._whole: list[Path] = []

    def next(self) -> Look | None:
        """The variants after all whole blocks of the judged stage.

        None where these are the same as before, and as long as the baseline has none.
        """
        if (whole := self._whole_journals()) == self._whole:
            return None
        self._whole = whole
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
        return Look(len(whole), [_row(variant, verdict, inputs) for variant, verdict in rows])

    def _whole_journals(self) -> list[Path]:
        """The journals of whole blocks. One that was whole can be put aside or measured again."""
        stage = self._experiment.judged_stage
        folders = [
            self._run.journal(variant.name, stage, 1).parent
            for variant in self._experiment.variants
        ]
        files = [file for folder in folders for file in sorted(folder.glob("block-*.jsonl"))]
        return [file for file in files if _has_ended(file)]

    def _whole_part(self, folder: Path) -> RunDirectory:
        """The run as links in `folder`, without the block that is being written."""
        part = RunDirectory(folder)
        run = self._run
        files = [
            run.prompts, run.variants, run.environment, run.rates, run.race, run.failures
        ]  # fmt: skip
        for file in [*(file for file in files if file.exists()), *self._whole]:
            link = folder / file.relative_to(run.path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
        return part


def _has_ended(journal: Path) -> bool:
    """Whether the journal's last line says that its block is complete."""
    try:
        with journal.open("rb") as stream:
            stream.seek(max(0, journal.stat().st_size - _LONGEST_END))
            line = stream.read().rstrip().rpartition(b"\n")[2]
        return msgspec.json.decode(line, type=JournalEnd).end == "complete"
    except (OSError, *UNREADABLE):
        return False


def _row(variant: VariantSummary, verdict: VariantVerdict, inputs: RunInputs) -> VariantView:
    stage, nothing = variant.at_judged_stage, absent("not measured")
    metrics = stage.metrics if stage else {}
    reason = next((o.sentence for o in verdict.objectives if o.label == verdict.binding), "")
    departure = (inputs.race or Race()).departure(variant.variant)
    failure = inputs.failed.get(variant.variant)
    if departure is not None:
        reason = f"left the race: {departure.sentence}"
    if failure is not None:
        reason = f"not measured to the end: {failure}"
    return VariantView(
        name=variant.variant,
        requests=stage.succeeded if stage else 0,
        p50=metrics.get("latency_p50", nothing),
        p95=metrics.get("latency_p95", nothing),
        quality=variant.metrics.get("quality", nothing),
        decision=verdict.decision,
        reason=reason.partition(";")[0],
        is_over=departure is not None or failure is not None,
    )
