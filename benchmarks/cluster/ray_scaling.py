"""`python -m benchmarks.cluster.ray_scaling`: what one Ray node sends, and what two do.

All run on this machine: a Ray cluster with a node for each, and the emulator. It climbs a ladder of
rates a node until one is not held. Where nodes and emulator have no core each, they take time from
one another, and the highest rate that is held says little. How many requests a CPU second of the
senders buys, at one rate a node, depends less on that: it is what machines of their own would show,
less their network.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foundation.http.endpoint import Endpoint
from foundation.processor import processor_name
from foundation.progress import Silent
from foundation.run.ceiling import SLIP_LIMIT_MS
from foundation.run.journal import Journal, read_journal
from loadgen import BlockPlan, Question, run_block
from loadgen.config import WorkloadConfig
from loadgen.emulator.process import emulator
from loadgen.event_loop import run
from loadgen.sending.nodes.ray_nodes import ray_nodes

_RATES = (250, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 6_000)
_SECONDS = 5


@dataclass(frozen=True)
class Level:
    """A rate offered by so many nodes, and how it was sent."""

    nodes: int
    rate: float
    sent_per_s: float
    slip_p99_ms: float
    per_cpu_s: float
    clock_bound_us: float

    @property
    def held(self) -> bool:
        """Whether all went out in time."""
        return self.slip_p99_ms <= SLIP_LIMIT_MS and self.sent_per_s > 0.98 * self.rate

    @property
    def words(self) -> str:
        """One line on it."""
        return (
            f"{self.nodes} node(s), {self.rate:,} requests/s: {self.sent_per_s:,.0f} sent, p99 "
            f"slip {self.slip_p99_ms:.2f} ms, {self.per_cpu_s:,.0f} a CPU second, clocks within "
            f"{self.clock_bound_us:,.0f} µs{'' if self.held else ' (not held)'}"
        )


def main() -> None:
    """Climbs the ladder with one node and with two, and prints a line a rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=int, default=_SECONDS)
    args = parser.parse_args()
    print(f"{processor_name()}, {os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
    held: dict[int, dict[int, Level]] = {nodes: {} for nodes in args.nodes}
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(max(args.nodes)) as address,
        emulator("--tokens", "1", "--ttft", "1ms", truth=Path(folder) / "truth.jsonl") as endpoint,
    ):
        for nodes in args.nodes:
            for rate in _RATES:
                file = Path(folder) / f"{nodes}-{rate}.jsonl"
                run(send(address, nodes, plan(endpoint, rate * nodes, args.seconds), file))
                level = measured(nodes, rate * nodes, file)
                print(level.words, flush=True)
                if not level.held:
                    break
                held[nodes][rate] = level
    print(summary(held))


def summary(held: dict[int, dict[int, Level]]) -> str:
    """How the most nodes scale against the fewest. `held`: by nodes, by rate a node."""
    few, many = min(held), max(held)
    if not (common := sorted(held[few].keys() & held[many].keys())):
        return "no rate was held by all: the machine is too busy to measure on"
    most = [max(level.sent_per_s for level in held[nodes].values()) for nodes in (few, many)]
    rate = common[-1]
    cost = held[many][rate].per_cpu_s / held[few][rate].per_cpu_s
    return (
        f"{few} node(s) hold {most[0]:,.0f} requests/s, {many} hold {most[1]:,.0f}: "
        f"{most[1] / most[0] * few / many:.2f} of it a node; at {rate:,} requests/s a node, a CPU "
        f"second buys {cost:.2f} of what it does with {few}"
    )


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """A Ray cluster of so many nodes on this machine, for as long as a `with` block lasts."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(nodes - 1):
            started.add_node(num_cpus=1)
        yield started.address
    finally:
        started.shutdown()


def plan(endpoint: Endpoint, rate: float, seconds: int) -> BlockPlan:
    """A block of short requests at a constant rate."""
    stage = {"rate": rate, "arrivals": "constant", "duration": f"{seconds}s"}
    workload = WorkloadConfig.model_validate({"stages": [stage], "warmup": "1s", "workers": 1})
    questions = [Question(f"q{n}", [{"role": "user", "content": f"q{n}"}]) for n in range(100)]
    return BlockPlan(endpoint, workload.stages[0], 1, 0, questions, "plain", workload)


async def send(address: str, nodes: int, block: BlockPlan, file: Path) -> None:
    """Sends a block from the first nodes of a cluster."""
    async with ray_nodes(address) as all_nodes:
        sending = replace(block, nodes=tuple(all_nodes[:nodes]))
        await run_block(sending, file, Silent(), asyncio.Event())


def measured(nodes: int, rate: float, file: Path) -> Level:
    """What a journal says of how its requests were sent."""
    journal = read_journal(file)
    assert isinstance(journal, Journal) and journal.end is not None
    header, requests = journal.header, journal.requests
    assert header.window_end_ns is not None
    window = requests.scheduled_ns >= header.window_start_ns
    seconds = (header.window_end_ns - header.window_start_ns) / 1e9
    sent = window & ~np.isnan(requests.slip)
    return Level(
        nodes=nodes,
        rate=rate,
        sent_per_s=float(sent.sum()) / seconds,
        slip_p99_ms=float(np.percentile(requests.slip[sent], 99)),
        per_cpu_s=len(requests) / journal.end.client_cpu_s,
        clock_bound_us=(header.clock_bound_ns or 0) / 1e3,
    )


if __name__ == "__main__":
    main()
