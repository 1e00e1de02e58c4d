"""`make bench-plan`: what the engine model, the plan and the search know of plants of known truth.

`python -m benchmarks.plan.run [plants of each kind] --jobs N` prints a line for each kind of plant.
It can be stopped: the same command continues with the plants that are missing. An interval whose
miss is within two standard errors of the truth is counted as unclear. Then come the search
against bisection, the closed forms, the million requests, and held-out loads on the emulator over
HTTP, unless `--plants-only` is given.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.plan.outcome_file import outcomes
from benchmarks.plan.plant_outcome import PlantOutcome
from benchmarks.plan.plants import KINDS
from benchmarks.plan.truth import UNCLEAR
from foundation.processor import processor_name

PLANTS = 34
"""Of each of the six kinds: a little over 200."""
MOST_ERROR, COVERAGE, WIDTH, PROBES, STAMPS = 0.02, 0.95, 0.20, 8, 0.03
_MODULES = (
    ["benchmarks.plan.search_coverage"], ["benchmarks.plan.closed_forms"],
    ["benchmarks.plan.scale"], ["benchmarks.plan.held_out", "emulator"],
)  # fmt: skip


def main() -> int:
    """Prints the tables; returns the exit code."""
    arguments = _arguments()
    print(f"{processor_name()}, {arguments.jobs} processes\n")
    known: list[PlantOutcome] = []
    for outcome in outcomes(arguments.outcomes, arguments.plants, arguments.jobs):
        known.append(outcome)
        if outcome.search_misses_by or outcome.plan_misses_by:
            print(_missed(outcome), file=sys.stderr)
        if sys.stderr.isatty():
            print(f"{len(known)} of {arguments.plants * len(KINDS)}", end="\r", file=sys.stderr)
    print(
        "| plant | n | error of a coefficient, median / worst | plan has the truth | plan's width "
        "| stamps against record | search has the truth | width | probes | search : bisection |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        print(_line(kind, [each for each in known if each.kind == kind]))
    print(_line("all", known), flush=True)
    errors = [each.truth.error for each in known]
    print(
        f"\nThe truth's standard error: {np.median(errors):.1%}, {max(errors):.1%} at most; "
        f"{sum(each.seconds for each in known) / len(known):.1f} s of one core a plant"
    )
    failed = [not _fits(known)]
    for module in [] if arguments.plants_only else _MODULES:
        print(f"\n## {' '.join(module)}\n", flush=True)
        failed.append(subprocess.run([sys.executable, "-m", *module], check=False).returncode != 0)
    return int(any(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Plants of known truth, in virtual time.")
    parser.add_argument("plants", nargs="?", type=int, default=PLANTS, help="of each kind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument(
        "--outcomes", type=Path, default=Path(".cache/bench-plan"), help="folder that keeps them"
    )
    parser.add_argument("--plants-only", action="store_true", help="nothing but the plants")
    return parser.parse_args()


def _missed(outcome: PlantOutcome) -> str:
    planned = outcome.planned
    return (
        f"{outcome.kind} {outcome.number}: truth {outcome.truth.rate:.4g}/s ± "
        f"{outcome.truth.error:.1%}, plan {planned.low} to {planned.high}, search {outcome.holds} "
        f"to {outcome.fails} by {[round(rate / outcome.truth.rate, 3) for rate in outcome.rates]}"
    )


def _line(kind: str, of_kind: Sequence[PlantOutcome]) -> str:
    errors = _known(each.error for each in of_kind)
    cells = (
        kind,
        f"{len(of_kind)}",
        f"{np.median(errors):.1%} / {max(errors):.1%}" if errors else "-",
        _coverage((each.plan_misses_by, each.truth.error) for each in of_kind),
        _median(each.plan_width for each in of_kind),
        _median(each.stamps_apart for each in of_kind),
        _coverage((each.search_misses_by, each.truth.error) for each in of_kind),
        _median(each.search_width for each in of_kind),
        f"{np.median([len(each.rates) for each in of_kind]):.0f}",
        _probes_against_bisection(of_kind),
    )
    return "| " + " | ".join(cells) + " |"


def _coverage(misses: Iterable[tuple[float | None, float]]) -> str:
    """How many intervals have the truth, and of the others those within twice its error."""
    known = [(by, error) for by, error in misses if by is not None]
    unclear = sum(0 < by <= UNCLEAR * error for by, error in known)
    inside = f"{sum(by == 0 for by, _ in known)}/{len(known)}"
    return f"{inside}, {unclear} unclear" if unclear else inside


def _missed_share(misses: Iterable[tuple[float | None, float]]) -> float:
    """The share of the intervals that the truth is outside of by more than twice its error."""
    return float(np.mean([by > UNCLEAR * error for by, error in misses if by is not None]))


def _probes_against_bisection(outcomes: Sequence[PlantOutcome]) -> str:
    """The median probes of the search and of bisection, on the plants that were bisected."""
    both = [(len(each.rates), each.bisection) for each in outcomes if each.bisection is not None]
    return " : ".join(f"{median:.0f}" for median in np.median(both, axis=0)) if both else "-"


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: Iterable[float | None]) -> str:
    known = _known(values)
    return f"{np.median(known):.1%}" if known else "-"


def _fits(known: Sequence[PlantOutcome]) -> bool:
    """Whether the goals hold over all plants."""
    bisected = [each for each in known if each.bisection is not None]
    probes, probes_of_bisected = (
        np.median([len(each.rates) for each in some]) for some in (known, bisected)
    )
    return bool(
        np.median(_known(each.error for each in known)) <= MOST_ERROR
        and 1 - _missed_share((each.plan_misses_by, each.truth.error) for each in known) >= COVERAGE
        and 1 - _missed_share((each.search_misses_by, each.truth.error) for each in known)
        >= COVERAGE
        and np.median(_known(each.search_width for each in known)) <= WIDTH
        and probes <= PROBES
        and probes_of_bisected < np.median(_known(each.bisection for each in bisected))
        and np.median(_known(each.stamps_apart for each in known)) <= STAMPS
    )


if __name__ == "__main__":
    sys.exit(main())
