"""`make bench-plan`: what the engine model, the plan and the search know of plants of known truth.

`python -m benchmarks.plan.run [plants of each kind]` prints a line for each kind of plant. Then
come the search against bisection, the closed forms, the million requests, and held-out loads on the
emulator over HTTP.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import exp, isnan, log, nan

import numpy as np

from benchmarks.plan.calibrated import Calibrated, calibrated, coefficient_errors
from benchmarks.plan.plant_search import SearchedPlant
from benchmarks.plan.plants import KINDS, EmulatedPlant, drawn_plant
from benchmarks.plan.search_coverage import searched
from benchmarks.plan.truth import Objective, drawn_objective, true_capacity
from foundation.processor import processor_name
from results.capacity.model.engine_model import EngineModel
from results.capacity.search.posterior import RateRange
from results.capacity.simulation.held_rate import HeldRate, held_rate
from results.config import Slo

PLANTS = 34
"""Of each of the six kinds: a little over 200."""
MOST_ERROR, COVERAGE, WIDTH, PROBES, STAMPS = 0.02, 0.95, 0.20, 8, 0.03
_MODULES = (
    ["benchmarks.plan.search_coverage"], ["benchmarks.plan.closed_forms"],
    ["benchmarks.plan.scale"], ["benchmarks.plan.held_out", "emulator"],
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What was found on one plant; NaN where something is not known.

    `error`: the largest error of a coefficient, as a part of a typical step. `planned`, `stamped`:
    the rates held by the model from the engine record, and from the stamps.
    """

    error: float
    truth: float
    planned: HeldRate
    stamped: float
    covers: bool
    width: float
    probes: int

    @property
    def plan_covers(self) -> bool | None:
        """Whether the plan's interval has the truth; None where it says no rate."""
        low, high = self.planned.low, self.planned.high
        if low is None:
            return None
        return low <= self.truth and (high is None or self.truth <= high)


def outcome(kind: str, number: int) -> Outcome:
    """Calibrates, plans and searches one plant."""
    emulated = drawn_plant(kind, number)
    objective = drawn_objective(emulated)
    known = calibrated(emulated)
    planned = _planned(known.recorded, emulated, objective)
    stamped = _planned(known.stamped_with_limits, emulated, objective)
    truth = true_capacity(emulated, objective, planned.rate or 1.0)
    plant = SearchedPlant(emulated, objective, truth)
    prior = None
    if planned.low and planned.high:
        prior = RateRange(planned.low, planned.high)
    max_rate = truth * exp(emulated.rng(5).uniform(log(1.5), log(30.0)))
    run = searched(plant, max_rate, emulated.rng(6), prior)
    return Outcome(
        _error(known, emulated), truth, planned, stamped.rate or nan, run.covers, run.width,
        len(run.probes),
    )  # fmt: skip


def main() -> int:
    """Prints the tables; returns the exit code."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PLANTS
    print(f"{processor_name()}\n")
    print(
        "| plant | n | error of a coefficient, median / worst | plan has the truth | plan's width "
        "| stamps against record | search has the truth | width | probes |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    everything: list[Outcome] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for kind in KINDS:
            outcomes = list(pool.map(outcome, [kind] * count, range(count)))
            everything += outcomes
            print(_line(kind, outcomes), flush=True)
    print(_line("all", everything), flush=True)
    failed = [not _fits(everything)]
    for module in _MODULES:
        print(f"\n## {' '.join(module)}\n", flush=True)
        failed.append(subprocess.run([sys.executable, "-m", *module], check=False).returncode != 0)
    return int(any(failed))


def _planned(model: EngineModel | str, emulated: EmulatedPlant, objective: Objective) -> HeldRate:
    if isinstance(model, str):
        return HeldRate(reason=model)
    slo = Slo({objective.metric: f"{objective.limit_ms}ms"})
    return held_rate(model, emulated.demand(emulated.rng(4)), slo, seed=1)


def _error(known: Calibrated, emulated: EmulatedPlant) -> float:
    if isinstance(known.recorded, str):
        return nan
    return float(np.abs(coefficient_errors(known.recorded, emulated)).max())


def _line(kind: str, outcomes: Sequence[Outcome]) -> str:
    errors = [each.error for each in outcomes if not isnan(each.error)]
    covered = [each.plan_covers for each in outcomes if each.plan_covers is not None]
    cells = (
        kind,
        f"{len(outcomes)}",
        f"{np.median(errors):.1%} / {max(errors):.1%}" if errors else "-",
        f"{sum(covered)}/{len(covered)}",
        f"{np.median(_plan_widths(outcomes) or [nan]):.1%}",
        f"{np.median(_apart(outcomes) or [nan]):.1%}",
        f"{sum(each.covers for each in outcomes)}/{len(outcomes)}",
        f"{np.nanmedian([each.width for each in outcomes]):.1%}",
        f"{np.median([each.probes for each in outcomes]):.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _plan_widths(outcomes: Sequence[Outcome]) -> list[float]:
    ends = [(each.planned.low, each.planned.high) for each in outcomes]
    return [2 * (high - low) / (high + low) for low, high in ends if low and high]


def _apart(outcomes: Sequence[Outcome]) -> list[float]:
    """How far the plan from stamps is off the plan from the record."""
    both = [(each.stamped, each.planned.rate) for each in outcomes if each.planned.rate]
    return [abs(stamped / rate - 1) for stamped, rate in both if not isnan(stamped)]


def _fits(outcomes: Sequence[Outcome]) -> bool:
    """Whether the goals hold over all plants."""
    covered = [each.plan_covers for each in outcomes if each.plan_covers is not None]
    return bool(
        np.nanmedian([each.error for each in outcomes]) <= MOST_ERROR
        and np.mean(covered) >= COVERAGE
        and np.mean([each.covers for each in outcomes]) >= COVERAGE
        and np.nanmedian([each.width for each in outcomes]) <= WIDTH
        and np.median([each.probes for each in outcomes]) <= PROBES
        and np.median(_apart(outcomes)) <= STAMPS
    )


if __name__ == "__main__":
    sys.exit(main())
