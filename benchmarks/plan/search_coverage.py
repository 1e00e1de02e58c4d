"""How often the interval of a search has the true capacity, how wide it is, and what it costs.

Seeded plants in virtual time (`search_plants`), each searched up to a rate between 1.5 and 30 times
its capacity. Beside it stands bisection as it is usually done: a rate holds if the percentile of
its probe is within the limit. It halves until its interval is as narrow as the search's target.
`python -m benchmarks.plan.search_coverage [plants]` prints the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, isnan, log, sqrt
from typing import Protocol

import numpy as np

from benchmarks.plan.search_plants import (
    Plant,
    bimodal,
    cliff,
    constant_work,
    curve,
    drifting,
    flat,
    heavy_tail,
    mm1,
)
from results.capacity.search.bracket import bracket
from results.capacity.search.posterior import RateRange
from results.capacity.search.probe import RateProbe, ShareLimit
from results.capacity.search.search import (
    EFFORT,
    TARGET_RATIO,
    NextProbe,
    Search,
    SearchEffort,
    SearchOutcome,
)

KINDS: dict[str, Callable[[np.random.Generator], Plant]] = {
    "M/M/1": lambda rng: mm1(float(rng.choice([0.6, 1.0, 2.0, 4.0]))),
    "M/D/k": lambda rng: constant_work(
        float(rng.choice([0.3, 0.5, 1.0])), int(rng.choice([1, 4])), float(rng.choice([95, 99]))
    ),
    "smooth": lambda rng: curve(
        float(rng.uniform(2, 40)), float(rng.uniform(3, 12)), float(rng.choice([90, 95, 99]))
    ),
    "steep": lambda rng: curve(float(rng.uniform(2, 40)), float(rng.uniform(12, 60))),
    "cliff": lambda rng: cliff(float(rng.uniform(2, 40))),
    "bimodal": lambda rng: bimodal(float(rng.choice([0.5, 1.0])), int(rng.choice([1, 4]))),
    "heavy tail": lambda rng: heavy_tail(float(rng.choice([0.6, 1.2])), int(rng.choice([1, 4]))),
    "drift": lambda rng: drifting(1.0, float(rng.uniform(0.2, 0.6)), 3_000.0),
    "flat": lambda rng: flat(float(rng.choice([0.3, 3.0]))),
}


MOST_HALVINGS = 40


class Probed(Protocol):
    """A server of known capacity that a search probes in virtual time."""

    @property
    def capacity(self) -> float:
        """The true one, requests/s; NaN where there is none."""

    @property
    def limits(self) -> list[ShareLimit]:
        """Its SLO."""

    def probe(self, wanted: NextProbe, rng: np.random.Generator, since: float = 0.0) -> RateProbe:
        """What a probe shows that begins `since` seconds after the search."""


@dataclass(frozen=True)
class Searched:
    """One search: its plant, what it probed, and its outcome."""

    plant: Probed
    max_rate: float
    probes: list[RateProbe]
    outcome: SearchOutcome
    requests: int

    @property
    def covers(self) -> bool:
        """Whether the interval has the true capacity; an end that is absent excludes nothing."""
        low, high = self.outcome.holds or 0.0, self.outcome.fails or float("inf")
        return low <= self.plant.capacity <= high

    @property
    def width(self) -> float:
        """The width of the interval over its middle, NaN where it has one end only."""
        low, high = self.outcome.holds, self.outcome.fails
        return float("nan") if low is None or high is None else 2 * (high - low) / (high + low)


def searched(
    plant: Probed,
    max_rate: float,
    rng: np.random.Generator,
    prior: RateRange | None = None,
    effort: SearchEffort = EFFORT,
) -> Searched:
    """Runs a search on a plant in virtual time."""
    search = Search.up_to(max_rate, plant.limits, prior, effort)
    probes: list[RateProbe] = []
    since, requests = 0.0, 0
    while isinstance(step := search.after(probes), NextProbe):
        probes.append(plant.probe(step, rng, since))
        since, requests = since + step.requests / step.rate, requests + step.requests
    return Searched(plant, max_rate, probes, step, requests)


def bisected(plant: Probed, max_rate: float, rng: np.random.Generator) -> int:
    """The probes of a bisection with the same test of each rate, and the same target.

    Both ends first, then the middle on a scale of logarithms. Where a probe settles nothing, one of
    twice the size follows at its rate.
    """
    search, size = Search.up_to(max_rate, plant.limits), 0
    probes: list[RateProbe] = []
    rate, since, last = max_rate, 0.0, 0.0
    while len(probes) < MOST_HALVINGS:
        size = 2 * size if rate == last else search.fewest(rate)
        step, last = NextProbe(rate, min(size, search.effort.requests), "search"), rate
        probes.append(plant.probe(step, rng, since))
        since += step.requests / step.rate
        ends = bracket(probes, plant.limits)
        if ends.contradicts or ends.ratio <= TARGET_RATIO or ends.holds.offered >= max_rate:
            break
        if ends.fails.offered <= search.lowest:
            break
        if rate in (ends.holds.offered, ends.fails.offered):
            low, high = ends.holds.offered, min(ends.fails.offered, max_rate)
            rate = sqrt(low * high) if low else search.lowest
    return len(probes)


def drawn(kind: str, number: int) -> tuple[Plant, float, np.random.Generator]:
    """A plant of a kind, the highest rate to search up to, and the random numbers of the search."""
    rng = np.random.default_rng([sorted(KINDS).index(kind), number])
    plant = KINDS[kind](rng)
    known = 10.0 if isnan(plant.capacity) else plant.capacity
    return plant, known * exp(rng.uniform(log(1.5), log(30.0))), rng


def row(kind: str, plants: int) -> str:
    """The line of the table for one kind of plant."""
    runs = [searched(*drawn(kind, number)) for number in range(plants)]
    halvings = [bisected(*drawn(kind, number)) for number in range(plants)]
    known = [run for run in runs if not isnan(run.plant.capacity)]
    covered = f"{sum(run.covers for run in known)}/{len(known)}" if known else "-"
    widths = [run.width for run in runs if not isnan(run.width)]
    cells = (
        kind,
        f"{len(runs)}",
        covered,
        f"{sum(run.outcome.resolved for run in runs)}",
        f"{np.median(widths):.1%}" if widths else "-",
        f"{np.median([len(run.probes) for run in runs]):.0f}",
        f"{np.median(halvings):.0f}",
        f"{np.median([run.requests for run in runs]):,.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    plants = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    print(
        "| plant | n | interval has the truth | resolved | width | probes | bisection | requests |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        print(row(kind, plants), flush=True)


if __name__ == "__main__":
    main()
