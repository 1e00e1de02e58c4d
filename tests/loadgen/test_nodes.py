"""Load from other machines: one schedule, one origin on every clock, and what a lost one takes."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from dyno.artifacts.facts import workload_facts
from foundation.errors import BadInput, SystemFailed
from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from foundation.run.ceiling import Ceiling
from foundation.run.engine_record import request_key
from foundation.run.records import RequestRecord
from loadgen import BlockPlan, run_block
from loadgen.config import Stage, WorkloadConfig
from loadgen.event_loop import run
from loadgen.schedule.arrivals import schedule
from loadgen.sending import block
from loadgen.sending.nodes import job, ray_nodes
from loadgen.sending.nodes.checks import (
    calibration_notes,
    check_nodes_rate,
    check_reachable,
    check_versions,
    slowest_ceiling,
)
from loadgen.sending.nodes.facts import facts_here
from loadgen.sending.nodes.fleet import node_workers
from loadgen.sending.nodes.node import NodeLost
from loadgen.sending.nodes.process import NodeProcess
from loadgen.sending.nodes.ray_frames import NodeAnswer
from loadgen.sending.worker_task import PART, WorkerTask, decoded_message
from tests.loadgen.conftest import Emulator, Journal, StartEmulator, questions, read_journal
from tests.loadgen.fake_node import FakeNode, facts

MS = 1_000_000
AHEAD_NS = 250 * MS


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """These nodes get the origin at once."""
    monkeypatch.setattr(block, "_NODES_LEAD_NS", 100 * MS)


def plan_of(
    endpoint: Endpoint, stage: dict[str, Any], nodes: list[FakeNode], **workload: Any
) -> BlockPlan:
    config = WorkloadConfig.model_validate({"stages": [stage], "warmup": "0s", **workload})
    return BlockPlan(
        endpoint, config.stages[0], 1, 0, questions(1000), "plain", config, nodes=tuple(nodes)
    )


def sent_as_planned(
    journal: Journal, stage: dict[str, Any], server: Emulator
) -> list[tuple[RequestRecord, int]]:
    """The records of a block in their order, with when the server got each, ns from the origin.

    Checks that each was sent once, at its time, with its prompt and key, and got its answer.
    """
    by_id = sorted(journal.records, key=lambda record: record.id)
    times = schedule(Stage.model_validate(stage), 0, 1, 0.0).times_ns.tolist()
    assert [record.scheduled_ns for record in by_id] == times
    assert [record.prompt_id for record in by_id] == [f"q{n}" for n in range(len(times))]
    assert {record.failure for record in by_id} == {None}
    truth, origin_ns = server.truth(), journal.header.origin_monotonic_ns
    did = [truth[f"question {record.id}"] for record in by_id]
    assert [each["key"] for each in did] == [request_key(origin_ns, r.id) for r in by_id]
    return [(r, each["arrived_ns"] - origin_ns) for r, each in zip(by_id, did, strict=True)]


def test_nodes_with_other_clocks_keep_one_schedule(emulator: StartEmulator, tmp_path: Path) -> None:
    server = emulator("--tokens", "3", "--itl", "10ms")
    nodes = [FakeNode("ahead", AHEAD_NS), FakeNode("behind", -AHEAD_NS)]
    stage, path = {"rate": 200, "requests": 40}, tmp_path / "block.jsonl"
    plan = plan_of(server.endpoint, stage, nodes, workers=1)
    run(run_block(plan, path, Silent(), asyncio.Event()))
    for node in nodes:
        assert {round(abs(each.offset_ns) / MS) for each in node.offsets} == {250}
        assert all(abs(abs(each.offset_ns) - AHEAD_NS) <= each.bound_ns for each in node.offsets)
    journal = read_journal(path)
    assert journal.end is not None and journal.end.end == "complete"
    assert (journal.header.machines, journal.header.workers, journal.header.planned) == (2, 2, 40)
    assert journal.header.clock_bound_ns is not None and journal.header.clock_bound_ns < 10 * MS
    arrivals = sent_as_planned(journal, stage, server)
    late_ns = [arrived_ns - record.sent_ns for record, arrived_ns in arrivals]
    assert min(late_ns) >= -journal.header.clock_bound_ns
    assert all(sum(record.chunk_ns[1:]) > 0 for record, _ in arrivals)
    # Half of them would be 250 ms early and half as late if an origin went out as it is.
    assert sorted(late_ns)[len(late_ns) // 2] < AHEAD_NS / 2
    assert [file.name for file in tmp_path.iterdir() if "part" in file.name] == []


def test_a_lost_node_ends_the_block_and_costs_its_own_requests(
    emulator: StartEmulator, tmp_path: Path
) -> None:
    server = emulator("--tokens", "1")
    nodes, path = [FakeNode("left"), FakeNode("gone", lost_after=5)], tmp_path / "block.jsonl"
    plan = plan_of(server.endpoint, {"rate": 50, "duration": "20s"}, nodes)
    assert plan.timetable is not None
    lost = len(range(1, len(plan.timetable.times_ns), 2))
    words = rf"node gone was lost \(the actor died\); {lost:,} planned requests of block 1 of rate"
    with pytest.raises(NodeLost, match=words):
        run(run_block(plan, path, Silent(), asyncio.Event()))
    journal = read_journal(path)
    assert journal.end is None and journal.header.machines == 2
    assert journal.header.clock_bound_ns is None
    assert {record.id % 2 for record in journal.records} == {0}
    assert len({record.id for record in journal.records}) == len(journal.records)
    sent = [record for record in journal.records if record.sent_ns is not None]
    assert 0 < len(sent) < len(journal.records)
    assert not any(node.process._jobs for node in nodes)


def test_a_worker_that_nobody_asks_for_sends_no_more(
    emulator: StartEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "ALONE_S", 0.1)
    monkeypatch.setattr(job, "_LOOK_S", 0.05)
    plan = plan_of(emulator("--tokens", "1").endpoint, {"rate": 50, "duration": "60s"}, [])
    node = NodeProcess()
    number, _ = node.start(WorkerTask(plan, Path(PART), by_fleet=True).pickled())
    while node.messages(number)[1] is None:
        time.sleep(0.05)
    node.end(number)


def test_a_closed_loop_leaves_out_the_nodes_that_it_has_no_request_for(tmp_path: Path) -> None:
    nodes = [FakeNode(name) for name in "abc"]
    endpoint = Endpoint("v", "http://example.com/v1", "m")
    stage = {"concurrency": 2, "requests": 9}
    plan = plan_of(endpoint, stage, nodes, workers=4)
    workers = node_workers(plan, tmp_path / "block.jsonl")
    assert [worker.part.suffix for worker in workers] == [".part-0", ".part-1"]
    assert [worker._plan.share.workers for worker in workers] == [2, 2]
    assert {worker._plan.workload.workers for worker in workers} == {1}
    assert node_workers(plan_of(endpoint, stage, []), tmp_path / "block.jsonl") == []


def test_a_node_that_differs_is_refused_by_name() -> None:
    here = facts_here()
    check_versions([facts(name="same")], here)
    with pytest.raises(BadInput, match=r"node other has tunedyno 9\.9, and this machine has"):
        check_versions([facts(name="other", dyno="9.9")], here)
    with pytest.raises(BadInput, match=r"node other has Python 3\.10\.1"):
        check_versions([facts(name="other", python="3.10.1")], here)


def test_a_server_on_this_machine_alone_is_no_server_for_others() -> None:
    here, there = facts_here(), facts(name="far", network="another")
    for address in ("http://127.0.0.1:1/v1", "http://localhost:1/v1", "http+unix://%2Fs"):
        endpoint = Endpoint("v", address, "m")
        check_reachable(endpoint, [here], here.network)
        with pytest.raises(BadInput, match=r"on this machine alone, and node far is another"):
            check_reachable(endpoint, [here, there], here.network)
    check_reachable(Endpoint("v", "http://gpu-3:8000/v1", "m"), [there], here.network)


def test_the_slowest_node_decides_what_all_can_send() -> None:
    fast = Ceiling(machine="fast", events_per_s=9e4, requests_per_s=4e3, streams=900)
    slow = Ceiling(machine="slow", events_per_s=4e4, requests_per_s=5e3, streams=800)
    nodes = [facts(name="a", ceiling=fast, cores=8), facts(name="b", ceiling=slow, cores=4)]
    assert slowest_ceiling(nodes) == Ceiling(
        machine="slow", events_per_s=4e4, requests_per_s=4e3, streams=800
    )
    check_nodes_rate(22_399, "max_rate", nodes)
    with pytest.raises(BadInput, match="these 2 machines send up to 22,400 requests/s"):
        check_nodes_rate(22_401, "max_rate", nodes)
    unknown = facts(name="c", ceiling=None, notes=[])
    assert slowest_ceiling([*nodes, unknown]) is None
    check_nodes_rate(1e9, "max_rate", [*nodes, unknown])
    [note] = calibration_notes([*nodes, unknown])
    assert note.startswith("node c: not calibrated")


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:6379", "ray://head:10001"])
def test_a_cluster_is_named_by_an_address_and_journals_are_of_it(address: str) -> None:
    stages = [{"rate": 1, "requests": 1}]
    one = WorkloadConfig.model_validate({"stages": stages})
    other = WorkloadConfig.model_validate({"stages": stages, "machines": address})
    assert "machines" not in workload_facts(one)
    assert workload_facts(other) == {**workload_facts(one), "machines": address}


@pytest.mark.parametrize("address", ["head", "ray://head", "http://head:1", "", "2"])
def test_another_address_is_refused_with_what_to_write(address: str) -> None:
    with pytest.raises(ValidationError, match="write auto, HOST:PORT or ray://HOST:10001"):
        WorkloadConfig.model_validate({"stages": [{"rate": 1, "requests": 1}], "machines": address})


async def _first_node(address: str) -> None:
    async with ray_nodes.ray_nodes(address):
        pass


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r'pip install "tunedyno\[ray\]"'):
        run(_first_node("auto"))


class _Deaf:
    """A driver whose cluster does not answer."""

    async def answer(self, *call: object) -> NodeAnswer:
        return await asyncio.get_running_loop().create_future()


def test_a_node_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_nodes, "SILENCE_S", 0.05)
    node = ray_nodes.RayNode(_Deaf(), "1", facts(name="deaf"))
    with pytest.raises(NodeLost, match=r"node deaf was lost \(no answer for 0\.05 s\)"):
        run(node.piece(0, 0))


class _Babbling:
    """A driver whose nodes answer every call alike."""

    def __init__(self, value: object) -> None:
        self._value = value

    async def answer(self, *call: object) -> NodeAnswer:
        return NodeAnswer(0, msgspec.Raw(msgspec.msgpack.encode(self._value)))


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("piece", "text"),
        ("messages", [[b"{}"], "7", ""]),
        ("messages", None),
        ("clock", [[1, 2, 3]]),
        ("clock", [[1, -2, 3, 4]]),
        ("clock", [[1, 2, 2**64 - 1, 4]]),
        ("clock", [[5, 10, 20, 7]]),
        ("clock", []),
    ],
)
def test_a_node_that_answers_what_no_node_can_is_lost(call: str, value: object) -> None:
    node = ray_nodes.RayNode(_Babbling(value), "1", facts(name="odd"))
    arguments = {"piece": (0, 0), "messages": (0,), "clock": ()}[call]
    with pytest.raises(NodeLost, match=r"node odd was lost \(its (answer|clock) can't be read: "):
        run(getattr(node, call)(*arguments))


@pytest.mark.parametrize(
    "line", [b"Hello\n", b'{"ended": -1}\n', b'{"note": "\xff"}\n', b"[" * 9999]
)
def test_a_worker_that_says_what_is_no_message_is_said(line: bytes) -> None:
    with pytest.raises(SystemFailed, match="a load generator worker said what can't be read"):
        decoded_message(line)
