"""`python -m benchmarks.fuzzed_runs.run [RUNS] [FIRST]`: random runs through analysis and report.

Prints the faults that the checker finds, by seed. Exits 1 if there are any.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import time
import traceback
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from benchmarks.fuzzed_runs.checks import check
from benchmarks.fuzzed_runs.draws import RandomRun
from benchmarks.fuzzed_runs.facts import read_run
from benchmarks.fuzzed_runs.kinds import add_kinds
from benchmarks.fuzzed_runs.parts import PARTS
from benchmarks.fuzzed_runs.races import race
from benchmarks.fuzzed_runs.relations import RELATIONS, again
from benchmarks.fuzzed_runs.runs import write_run
from benchmarks.fuzzed_runs.shares import is_whole
from dyno.experiment.loading import load_experiment
from dyno.pipeline.decide import decide
from dyno.terminal.capacity import show_capacity
from dyno.terminal.results import outage, show_results
from foundation.errors import BadInput
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from results.capacity.plan.capacity_plan import CapacityPlan

RUNS = 1000
NO_NUMBER = re.compile(r"(?<![\w.-])(nan|inf|-inf|None|NaN|Infinity)(?![\w-])")


def fuzz(folder: Path, seed: int) -> list[str]:
    """All faults in the conclusions from the run of one seed."""
    write_run(folder, seed)
    kinds = RandomRun(folder, np.random.default_rng([seed, 1]))
    add_kinds(kinds)
    try:
        if kinds.chance(0.2) and read_run(folder):
            race(folder)
        return [*_through(folder), *check(folder)]
    except BadInput as error:
        return [] if _nothing_there(folder) else [f"refused: {error}"]
    except Exception:
        return [f"crashed: {traceback.format_exc(limit=-3)}"]


def related(folder: Path, seed: int) -> list[str]:
    """All faults in what follows where the decided run of a seed is changed in a known way."""
    if not is_whole(folder) or not (folder / "summary.json").is_file():
        return []
    rng = np.random.default_rng([seed, 2])
    known = [again] if (folder / "race.json").is_file() else [*RELATIONS, *PARTS]
    relation = known[int(rng.integers(len(known)))]
    try:
        faults = relation(folder, folder.with_name(relation.__name__), rng)
        return [f"{relation.__name__}: {each}" for each in faults]
    except Exception:
        return [f"{relation.__name__} crashed: {traceback.format_exc(limit=-3)}"]


def _nothing_there(folder: Path) -> bool:
    return not read_run(folder)


def _through(folder: Path) -> list[str]:
    """Decides the run, shows its results, and checks the texts that a person reads."""
    run = RunDirectory(folder)
    console = Console(file=io.StringIO(), width=200)
    summary, verdicts = decide(run, load_experiment(run.experiment), Silent())
    show_results(console, run, summary, verdicts, excerpt=True)
    if (planned := folder / "plan.json").exists():
        plan = msgspec.json.decode(planned.read_bytes(), type=CapacityPlan)
        show_capacity(console, plan, planned)
    assert isinstance(console.file, io.StringIO)
    texts = {
        "terminal": console.file.getvalue(),
        "report.md": (folder / "report.md").read_text(),
        "report.html": _text_of(folder),
    }
    faults = [
        f"{name} has {match[0]!r}: ...{text[max(0, match.start() - 60) : match.end() + 20]}..."
        for name, text in texts.items()
        if (match := NO_NUMBER.search(text))
    ]
    facts = read_run(folder)
    nothing = sum(each.planned for each in facts.values()) > 0 and not any(
        each.succeeded for each in facts.values()
    )
    return (
        faults
        if (outage(summary) is not None) == nothing
        else [*faults, "an outage is reported for a run that has answers"]
    )


class _Text(HTMLParser):
    """The text of the page up to its definitions."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = self._over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("style", "script")
        self._over = self._over or ("id", "definitions") in attrs

    def handle_data(self, data: str) -> None:
        if not self._hidden and not self._over:
            self.parts.append(data)


def _text_of(folder: Path) -> str:
    page = _Text()
    page.feed((folder / "report.html").read_text())
    return " ".join(page.parts)


def main() -> None:
    """Prints the faults of each seed's run."""
    runs, first = (
        int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, RUNS), (2, 0))
    )
    began, faulty = time.monotonic(), 0
    for seed in range(first, first + runs):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            faults = fuzz(run, seed)
            faults += related(run, seed)
        faulty += bool(faults)
        for each in faults:
            print(f"seed {seed}: {each}", flush=True)
    print(f"{runs:,} runs in {time.monotonic() - began:.0f} s, {faulty} with something wrong")
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
