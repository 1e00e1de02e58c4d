"""The report of a run: report.html (one file), report.md (pull requests), junit.xml (CI)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.files.atomic_write import write_whole
from results.summary import CapacityPlan, Summary, Verdicts

if TYPE_CHECKING:
    from results.measures.measured import MeasuredVariant


def write(
    run: Path,
    summary: Summary,
    verdicts: Verdicts,
    plan: CapacityPlan | None,
    provenance: Mapping[str, Any],
    measured: Sequence[MeasuredVariant],
) -> tuple[Path, Path, Path]:
    """Write report.html, report.md and junit.xml into `run` and return their paths.

    `provenance` is shown as it is: hardware, versions, commits, seeds. The configuration is read
    from the run's experiment.yaml.
    """
    from results.report import junit, page

    made = {
        "report.html": page.html(run, summary, verdicts, plan, provenance, measured),
        "report.md": page.markdown(summary, verdicts, plan),
        "junit.xml": junit.junit(summary, verdicts),
    }
    for name, text in made.items():
        write_whole(run / name, text)
    return run / "report.html", run / "report.md", run / "junit.xml"
