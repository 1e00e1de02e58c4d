"""`dyno merge`: makes one run of the parts of a load that several hosts sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyno.commands.run import RunOutput, print_results
from dyno.pipeline.decide import decide
from dyno.pipeline.merging import merge_runs
from dyno.pipeline.part_runs import read_parts
from dyno.terminal.progress import open_console, progress_for
from foundation.run.layout import held_run


def merge_load(paths: Sequence[Path], out: Path, *, partial: bool, as_json: bool) -> None:
    """Merges the parts in `paths` into a new run directory under `out`, and prints the results.

    `partial`: whether parts may be missing. Raises BadInput for parts that are not of one load, and
    SystemFailed if no request succeeded.
    """
    parts, output = read_parts(paths, partial=partial), RunOutput(as_json=as_json)
    console = open_console(stderr=as_json)
    with progress_for(console) as progress, held_run(out) as folder:
        directory = folder(parts.experiment.name)
        for sentence in merge_runs(parts, directory):
            progress.log(f"warning: {sentence}")
        results = decide(directory, parts.experiment, progress)
    print_results(console, directory, parts.experiment, results, output)
