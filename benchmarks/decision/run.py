"""`make bench-decision`: the error rates of the decision as a Markdown table. Minutes on one core; seeded, so always the same."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.decision import simulate as sim
from benchmarks.decision import two_runs
from benchmarks.decision.simulate import Machine, Queue

COMPARISONS = 2000
ALLOWED = 0.064
MACHINES = {
    "independent": Machine(),
    "autocorrelation 0.5": Machine(0.5),
    "autocorrelation 0.9": Machine(0.9),
    "drift of 50 %": Machine(drift=0.5),
}


def rows() -> Iterator[tuple[str, str, float, str, bool]]:
    """What is simulated, of what, the share of comparisons, what must hold, and whether it does."""
    allowed = f"<= {ALLOWED:.1%}"
    for name, machine in MACHINES.items():
        for q in (50, 95, 99):
            rate = sim.differences(machine, q, COMPARISONS, seed=1)
            yield "A/A called different", f"p{q}, {name}", rate, allowed, rate <= ALLOWED
    for name, machine in MACHINES.items():
        rate = sim.differences_by_bootstrap(machine, 95, COMPARISONS, seed=1)
        yield "A/A called different by the bootstrap", f"p95, {name}", rate, allowed, rate <= ALLOWED
    for name, machine in list(MACHINES.items())[:3]:
        for q in (50, 95, 99):
            rate = sim.false_ships(machine, q, COMPARISONS, seed=2)
            yield "at the limit, called holding", f"p{q}, {name}", rate, allowed, rate <= ALLOWED
    for blocks, per_block in ((5, 60), (8, 26), (10, 50)):
        for effect in (0.0, 0.1, 0.3, 0.6):
            rate = sim.false_ships(Machine(0.5, block_effect=effect), 95, COMPARISONS, 2, blocks, per_block)
            of = f"p95, autocorrelation 0.5, {blocks} blocks of {per_block}" + (f" that differ by {effect:.0%}" if effect else "")
            yield "at the limit, called holding", of, rate, allowed, rate <= ALLOWED
    for queue in (Queue(0.5), Queue(0.7, 0.1), Queue(0.9), Queue(0.9, 0.2)):
        rate = sim.false_ships_of_a_queue(queue, 95, COMPARISONS, seed=7)
        mood = f", speed differs by {queue.mood:.0%}" if queue.mood else ""
        yield "at the limit, called holding", f"p95, a queue at {queue.load:.0%} load{mood}, 10 blocks of 50", rate, "", True
    for pilot in (1, 3):
        rate = sim.planned_power(Machine(), 95, 0.1, pilot, COMPARISONS, seed=8)
        yield "10 % slower, blocks as planned for 80 %", f"p95, pilot of {pilot}", rate, "70 to 97 %", 0.7 <= rate <= 0.97
    for name, machine in MACHINES.items():
        rate = sim.differences_when_peeking(machine, 95, COMPARISONS, seed=3)
        yield "A/A, a look after every block", f"p95, {name}", rate, allowed, rate <= ALLOWED
    for name, machine in list(MACHINES.items())[:3]:
        rate = sim.false_ships_when_peeking(machine, 95, COMPARISONS, seed=4)
        yield "at the limit, a look after every block", f"p95, {name}", rate, allowed, rate <= ALLOWED
    for q in (50, 95, 99):
        rate = sim.differences(Machine(), q, COMPARISONS, seed=5, factor=1.1)
        must = ">= 80 %" if q == 95 else ""
        yield "10 % slower, called different", f"p{q}, independent", rate, must, q != 95 or rate >= 0.8
    for shape in sim.SHAPES:
        for q, n in ((50, 200), (95, 400), (95, 2000), (99, 1000), (99, 5000)):
            rate = sim.coverage(shape, q, n, COMPARISONS, seed=6)
            yield "95 % interval holds the truth", f"p{q}, {shape}, n = {n:,}", rate, "93 to 97 %", 0.93 <= rate <= 0.97
    yield from two_runs.rows()


def main() -> int:
    print(f"{COMPARISONS:,} comparisons a row; ten interleaved blocks of 500 requests a variant where nothing else is said.\n")
    print("| simulated | of | share | must be | |\n|---|---|---|---|---|")
    good = True
    for what, of, rate, must, holds in rows():
        good = good and holds
        print(f"| {what} | {of} | {rate:.1%} | {must} | {'' if not must else 'ok' if holds else 'MISSED'} |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
