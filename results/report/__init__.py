"""The report of a run: report.html for a browser, report.md for a pull request, junit.xml for CI.

It is made from the summary, the verdicts, the capacity plan, the search and the journals. The same
input gives the same bytes. Start at `page`; the terminal prints the rows of `table` too.

The figures are static SVG, drawn in `figures`. A script of a few kilobytes zooms the timeline, and
without it the figure shows the whole run. The page stays one offline file under a megabyte. It
opens at once, prints, and follows the reader's light or dark scheme. A plotting library in
JavaScript would add five megabytes and need a script for each of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.files.atomic_write import write_whole
from results.capacity.plan.capacity_plan import CapacityPlan
from results.summary import Summary, Verdicts

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
    """Writes report.html, report.md and junit.xml into `run` and returns their paths.

    The page shows `provenance` as it is: hardware, versions, commits, seeds. It reads the
    configuration from the run's experiment.yaml.
    """
    from results.report import improvement, junit, page
    from results.report.capacity import searched

    texts = {
        "report.html": page.html(run, summary, verdicts, plan, provenance, measured),
        "report.md": page.markdown(
            summary, verdicts, plan, searched.words(run), improvement.improvement_section(run)
        ),
        "junit.xml": junit.junit(summary, verdicts),
    }
    for name, text in texts.items():
        write_whole(run / name, text)
    return run / "report.html", run / "report.md", run / "junit.xml"
