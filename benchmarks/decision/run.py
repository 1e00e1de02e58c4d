"""`make bench-decision`: error rates of the decision as Markdown tables, from fixed seeds.

`--quick` makes a tenth of the runs; `--only WORD` the rows of objectives whose kind has the word;
`--race` the races alone.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import cpu_count

from benchmarks.decision import simulate as sim
from benchmarks.decision import two_runs
from benchmarks.decision.cases import at_the_limit, inside_the_limit
from benchmarks.decision.race import races
from benchmarks.decision.simulate import Machine, Queue
from results.summary import Outcome

COMPARISONS, RUNS = 2000, 3000
ALLOWED = 0.064
MACHINES = {
    "independent": Machine(),
    "autocorrelation 0.5": Machine(0.5),
    "autocorrelation 0.9": Machine(0.9),
    "drift of 50 %": Machine(drift=0.5),
}


def rows(runs: int) -> Iterator[tuple[str, str, float, str, bool]]:
    """What is simulated, of what, the share of comparisons, what must hold, and whether it does."""
    allowed = f"<= {ALLOWED:.1%}"
    for name, machine in MACHINES.items():
        for q in (50, 95, 99):
            rate = sim.differences(machine, q, runs, seed=1)
            yield "A/A called different", f"p{q}, {name}", rate, allowed, rate <= ALLOWED
    for name, machine in MACHINES.items():
        rate = sim.differences_by_bootstrap(machine, 95, runs, seed=1)
        yield (
            "A/A called different by the bootstrap",
            f"p95, {name}",
            rate,
            allowed,
            rate <= ALLOWED,
        )
    for name, machine in list(MACHINES.items())[:3]:
        for q in (50, 95, 99):
            rate = sim.false_ships(machine, q, runs, seed=2)
            yield "at the limit, called holding", f"p{q}, {name}", rate, allowed, rate <= ALLOWED
    for blocks, per_block in ((5, 60), (8, 26), (10, 50)):
        for effect in (0.0, 0.1, 0.3, 0.6):
            rate = sim.false_ships(
                Machine(0.5, block_effect=effect), 95, runs, 2, blocks, per_block
            )
            of = f"p95, autocorrelation 0.5, {blocks} blocks of {per_block}" + (
                f" that differ by {effect:.0%}" if effect else ""
            )
            yield "at the limit, called holding", of, rate, allowed, rate <= ALLOWED
    for queue in (Queue(0.5), Queue(0.7, 0.1), Queue(0.9), Queue(0.9, 0.2)):
        rate = sim.false_ships_of_a_queue(queue, 95, runs, seed=7)
        mood = f", speed differs by {queue.mood:.0%}" if queue.mood else ""
        yield (
            "at the limit, called holding",
            f"p95, a queue at {queue.load:.0%} load{mood}, 10 blocks of 50",
            rate,
            "",
            True,
        )
    for pilot in (1, 3):
        rate = sim.planned_power(Machine(), 95, 0.1, pilot, runs, seed=8)
        yield (
            "10 % slower, blocks as planned for 80 %",
            f"p95, pilot of {pilot}",
            rate,
            "70 to 97 %",
            0.7 <= rate <= 0.97,
        )
    for name, machine in MACHINES.items():
        rate = sim.differences_when_peeking(machine, 95, runs, seed=3)
        yield "A/A, a look after every block", f"p95, {name}", rate, allowed, rate <= ALLOWED
    for name, machine in list(MACHINES.items())[:3]:
        rate = sim.false_ships_when_peeking(machine, 95, runs, seed=4)
        yield (
            "at the limit, a look after every block",
            f"p95, {name}",
            rate,
            allowed,
            rate <= ALLOWED,
        )
    for q in (50, 95, 99):
        rate = sim.differences(Machine(), q, runs, seed=5, factor=1.1)
        must = ">= 80 %" if q == 95 else ""
        yield (
            "10 % slower, called different",
            f"p{q}, independent",
            rate,
            must,
            q != 95 or rate >= 0.8,
        )
    for shape in sim.SHAPES:
        for q, n in ((50, 200), (95, 400), (95, 2000), (99, 1000), (99, 5000)):
            rate = sim.coverage(shape, q, n, runs, seed=6)
            yield (
                "95 % interval holds the truth",
                f"p{q}, {shape}, n = {n:,}",
                rate,
                "93 to 97 %",
                0.93 <= rate <= 0.97,
            )
    yield from two_runs.rows(runs)


def _outcomes(case: tuple[str, int, int]) -> dict[Outcome, float]:
    """Of one row, in a process of its own: the name of its list, its place there, the runs."""
    which, place, runs = case
    return (at_the_limit if which == "at" else inside_the_limit)()[place].outcomes(runs, seed=9)


def objectives(runs: int, only: str) -> bool:
    """Prints wrong decisions at the limit and right ones inside it; True if every row passes."""
    good = True
    with ProcessPoolExecutor(max_workers=cpu_count(), mp_context=get_context("spawn")) as pool:
        for which, cases, head in (
            ("at", at_the_limit(), "called holding | called failing | must be"),
            ("inside", inside_the_limit(), "called holding | called failing | holding must be"),
        ):
            print(
                f"\n| objective | shape | data | {head} | |\n|---|---|---|---|---|---|---|",
                flush=True,
            )
            places = [place for place, case in enumerate(cases) if only in case.kind]
            for place, shares in zip(
                places, pool.map(_outcomes, [(which, p, runs) for p in places]), strict=True
            ):
                case = cases[place]
                worst = max(shares["holds"], shares["fails"])
                kept = worst <= ALLOWED if case.power is None else shares["holds"] >= case.power
                must = f"<= {ALLOWED:.1%}" if case.power is None else f">= {case.power:.0%}"
                good = good and kept
                rates = f"{shares['holds']:.1%} | {shares['fails']:.1%}"
                line = (
                    f"| {case.kind} | {case.shape} | {case.data} | {rates} | {must} | "
                    f"{'ok' if kept else 'MISSED'} |"
                )
                print(re.sub(r"(?<=\d)%", " %", line), flush=True)
    return good


def main() -> int:
    """Prints the tables; returns the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--race", action="store_true")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    with ProcessPoolExecutor(max_workers=cpu_count(), mp_context=get_context("spawn")) as pool:
        raced = options.only != "" or races(COMPARISONS // share, pool, ALLOWED)
    if options.race:
        return 0 if raced else 1
    good = options.only != "" or comparisons(COMPARISONS // share)
    return 0 if objectives(RUNS // share, options.only) and good and raced else 1


def comparisons(runs: int) -> bool:
    """Prints error rates of the bounds on simulated measurements; True if every row passes."""
    print(
        f"{runs:,} comparisons a row; ten interleaved blocks of 500 requests a variant where "
        "nothing else is said.\n"
    )
    print("| simulated | of | share | must be | |\n|---|---|---|---|---|")
    good = True
    for what, of, rate, must, holds in rows(runs):
        good = good and holds
        print(
            f"| {what} | {of} | {rate:.1%} | {must} | "
            f"{'' if not must else 'ok' if holds else 'MISSED'} |",
            flush=True,
        )
    return good


if __name__ == "__main__":
    raise SystemExit(main())
