"""Load from the nodes of a real Ray cluster on this machine: at work, halted and killed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from foundation.errors import BadInput, SystemFailed
from foundation.progress import Silent
from loadgen import BlockPlan, run_block
from loadgen.event_loop import run
from loadgen.sending.nodes.ray_nodes import ray_nodes
from tests.loadgen.conftest import Journal, StartEmulator, read_journal
from tests.loadgen.test_nodes import plan_of, sent_as_planned

pytestmark = pytest.mark.slow
NODES = 4
MARK = "TUNEDYNO_TEST_CLUSTER"
"""In the environment of all that a cluster of this process starts."""
# A node is lost after 30 s without an answer; then the others end.
WITHIN_S = 60.0


class NodesHere:
    """A Ray cluster on this machine whose nodes can be killed."""

    def __init__(self, nodes: int, client_port: int | None = None) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        os.environ[MARK] = str(os.getpid())
        head = {"num_cpus": 1, "ray_client_server_port": client_port}
        self.ray = RayCluster(initialize_head=True, head_node_args=head)
        # Addresses of their own: else our driver takes any of them for the one that it belongs to.
        self.others = [
            self.ray.add_node(num_cpus=1, node_ip_address=f"127.0.0.{number}")
            for number in range(2, nodes + 1)
        ]
        self.ray.wait_for_nodes()

    @property
    def address(self) -> str:
        return str(self.ray.address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[NodesHere]:
    pytest.importorskip("ray")
    started = NodesHere(NODES)
    yield started
    started.ray.shutdown()


@pytest.fixture
def mortal_cluster() -> Iterator[NodesHere]:
    """A cluster for one test, which may kill it."""
    pytest.importorskip("ray")
    started = NodesHere(2)
    yield started
    started.ray.shutdown()


def send(address: str, plan: BlockPlan, path: Path, nodes: int) -> Journal:
    """Sends a block from so many nodes; 0: from this process."""

    async def main() -> None:
        if not nodes:
            await run_block(plan, path, Silent(), asyncio.Event())
            return
        async with ray_nodes(address) as everyone:
            sending = replace(plan, nodes=tuple(everyone[:nodes]))
            await run_block(sending, path, Silent(), asyncio.Event())

    run(main())
    return read_journal(path)


def check_whole(journal: Journal, plan: BlockPlan) -> None:
    """Every planned request was sent once and got its answer."""
    assert plan.timetable is not None and journal.end is not None
    assert journal.end.end == "complete"
    assert sorted(r.id for r in journal.records) == list(range(len(plan.timetable.times_ns)))
    assert {record.failure for record in journal.records} == {None}


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    """Acts once the block has been under way for two seconds."""

    def wait_and_act() -> None:
        while not senders():
            time.sleep(0.1)
        time.sleep(2.0)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def senders() -> list[psutil.Process]:
    """The worker processes of jobs on our nodes."""
    return [p for p in processes() if "loadgen.sending.worker" in p.info["cmdline"]]


def processes() -> Iterator[Any]:
    """Those that our clusters started, and their children."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get(MARK) == str(os.getpid()) and process.info[
            "cmdline"
        ]:
            yield process


def actors() -> list[psutil.Process]:
    """The processes that Ray runs our actors in."""
    return [p for p in processes() if "ray::NodeProcess" in " ".join(p.info["cmdline"])]


def test_one_two_and_four_nodes_send_what_one_process_does(
    cluster: NodesHere, emulator: StartEmulator, tmp_path: Path
) -> None:
    stage = {"rate": 40, "requests": 120}
    latencies = {}
    for nodes in (0, 1, 2, 4):
        server = emulator("--tokens", "4", "--ttft", "40ms", "--itl", "10ms")
        plan = plan_of(server.endpoint, stage, [], workers=1)
        journal = send(cluster.address, plan, tmp_path / f"{nodes}.jsonl", nodes)
        arrivals = sent_as_planned(journal, stage, server)
        late = [arrived_ns - record.scheduled_ns for record, arrived_ns in arrivals]
        latencies[nodes] = np.median([r.done_ns - r.scheduled_ns for r, _ in arrivals]) / 1e6
        bound_ns = journal.header.clock_bound_ns or 0
        assert min(late) >= -bound_ns
        assert journal.header.machines == max(nodes, 1)
        print(f"{nodes} nodes: latency p50 {latencies[nodes]:.2f} ms, late p50 "
              f"{np.median(late) / 1e6:.2f} ms, clocks within {bound_ns / 1e3:.0f} µs")  # fmt: skip
    for nodes in (1, 2, 4):
        assert latencies[nodes] == pytest.approx(latencies[0], rel=0.15)
    assert not actors() and not senders()


def test_a_killed_node_ends_the_block_and_costs_its_own_requests(
    mortal_cluster: NodesHere, emulator: StartEmulator, tmp_path: Path
) -> None:
    server, path = emulator("--tokens", "1"), tmp_path / "block.jsonl"
    plan = plan_of(server.endpoint, {"rate": 50, "duration": "600s"}, [])
    [node] = mortal_cluster.others
    killing = meanwhile(lambda: mortal_cluster.ray.remove_node(node, allow_graceful=False))
    began_s = time.monotonic()
    with pytest.raises(SystemFailed, match=r"node .* was lost .* planned requests of block 1"):
        send(mortal_cluster.address, plan, path, 2)
    killing.join()
    assert time.monotonic() - began_s < WITHIN_S
    journal = read_journal(path)
    assert journal.end is None and journal.header.machines == 2
    [parity] = {record.id % 2 for record in journal.records}
    assert len({record.id for record in journal.records}) == len(journal.records)
    assert plan.timetable is not None
    assert len(journal.records) == len(range(parity, len(plan.timetable.times_ns), 2))
    assert not senders()


def test_a_killed_head_ends_the_block_in_time(
    mortal_cluster: NodesHere, emulator: StartEmulator, tmp_path: Path
) -> None:
    server, path = emulator("--tokens", "1"), tmp_path / "block.jsonl"
    plan = plan_of(server.endpoint, {"rate": 50, "duration": "600s"}, [])
    head = mortal_cluster.ray.head_node
    killing = meanwhile(lambda: head.kill_all_processes(check_alive=False, allow_graceful=False))
    began_s = time.monotonic()
    with pytest.raises(SystemFailed, match="was lost"):
        send(mortal_cluster.address, plan, path, 2)
    killing.join()
    assert time.monotonic() - began_s < 2 * WITHIN_S
    if path.exists():
        journal = read_journal(path)
        assert journal.end is None
        assert len({record.id for record in journal.records}) == len(journal.records)
    deadline_s = time.monotonic() + WITHIN_S
    while senders() and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert not senders()


def test_a_node_that_is_silent_for_five_seconds_loses_nothing(
    cluster: NodesHere, emulator: StartEmulator, tmp_path: Path
) -> None:
    server, path = emulator("--tokens", "1"), tmp_path / "block.jsonl"
    plan = plan_of(server.endpoint, {"rate": 50, "duration": "10s"}, [])

    def halt() -> None:
        silent = actors()[0]
        silent.suspend()
        time.sleep(5.0)
        silent.resume()

    halting = meanwhile(halt)
    journal = send(cluster.address, plan, path, 2)
    halting.join()
    check_whole(journal, plan)


def test_dyno_load_names_the_nodes_and_leaves_nothing(
    cluster: NodesHere, emulator: StartEmulator, tmp_path: Path
) -> None:
    url = emulator("--tokens", "2").endpoint.base_url
    flags = ["--url", url, "--model", "emulated", "--prompt", "Hi", "--rate", "20"]
    flags += ["--requests", "40", "--blocks", "2", "--machines", cluster.address, "--out", "runs"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dyno.cli", "load", *flags, "--output-tokens", "2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [environment] = tmp_path.glob("runs/*/environment.json")
    nodes = json.loads(environment.read_text())["nodes"]
    assert len({node["id"] for node in nodes}) == NODES
    assert {tuple(sorted(node)) for node in nodes} == {("cores", "cpu", "host", "id")}
    journals = sorted(environment.parent.glob("load/*/*/block-*.jsonl"))
    assert journals and {read_journal(file).header.machines for file in journals} == {NODES}
    assert not actors() and not senders()
    assert not [p for p in processes() if "loadgen.sending.nodes.ray_driver" in p.info["cmdline"]]


def test_a_cluster_is_reached_through_its_client_server_too(
    emulator: StartEmulator, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = NodesHere(1, port)
    plan = plan_of(emulator("--tokens", "2").endpoint, {"rate": 40, "requests": 40}, [])
    try:
        journal = send(f"ray://127.0.0.1:{port}", plan, tmp_path / "block.jsonl", 1)
    finally:
        started.ray.shutdown()
    assert journal.end is not None and journal.end.end == "complete"
    assert sorted(record.id for record in journal.records) == list(range(40))
    assert {record.failure for record in journal.records} == {None}
    assert journal.header.clock_bound_ns is not None


def test_an_address_without_a_cluster_is_refused_in_one_line() -> None:
    pytest.importorskip("ray")

    async def look() -> None:
        async with ray_nodes("127.0.0.1:9"):
            pass

    with pytest.raises((BadInput, SystemFailed), match="Ray") as refusal:
        run(look())
    assert "\n" not in str(refusal.value)
