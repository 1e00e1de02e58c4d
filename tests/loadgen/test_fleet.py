"""Several workers: the same schedule, the same questions, one whole journal."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import SystemFailed
from foundation.progress import Silent
from foundation.run.records import JournalEnd, RequestRecord
from loadgen import BlockPlan, run_block
from loadgen.config import Stage, WorkloadConfig
from loadgen.event_loop import run
from loadgen.schedule.arrivals import WorkerShare, schedule
from loadgen.sending.journal_parts import merge
from loadgen.sending.origin import Origin
from loadgen.sending.shared_start import LateStart, SharedStart
from tests.loadgen.conftest import RunBlock, StartEmulator, questions, read_journal
from tests.loadgen.test_load_process import CHILD
from tests.run_files import header, lines


@given(count=st.integers(0, 300), workers=st.integers(1, 16))
def test_shares_are_disjoint_and_whole(count: int, workers: int) -> None:
    parts = [
        number for worker in range(workers) for number in WorkerShare(worker, workers).of(count)
    ]
    assert sorted(parts) == list(range(count))


def test_open_loop_workers_keep_one_schedule(
    emulator: StartEmulator, block: RunBlock, tmp_path: Path
) -> None:
    server = emulator("--tokens", "2")
    of = {"rate": 60, "requests": 60}
    journal = block(server.endpoint, of, workers=3)
    times = schedule(Stage.model_validate(of), 0, 1, 0.0).times_ns.tolist()
    assert journal.end.end == "complete" and journal.header.planned == 60
    by_id = sorted(journal.records, key=lambda r: r.id)
    assert [r.id for r in by_id] == list(range(60))
    assert [r.scheduled_ns for r in by_id] == times
    assert [r.prompt_id for r in by_id] == [f"q{i}" for i in range(60)]
    assert {r.failure for r in journal.records} == {None}
    assert (np.diff([r.done_ns for r in journal.records]) >= 0).all()
    truth = server.truth()
    for record in journal.records:
        assert (
            truth[f"question {record.prompt_id[1:]}"]["arrived_ns"]
            >= record.sent_ns + journal.header.origin_monotonic_ns
        )
    assert len({did["key"] for did in truth.values()}) == 60
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_closed_loop_workers_share_the_slots_and_the_requests(
    emulator: StartEmulator, block: RunBlock
) -> None:
    server = emulator("--tokens", "4")
    journal = block(
        server.endpoint, {"concurrency": 5, "requests": 40, "warmup": "0.2s"}, workers=2
    )
    assert max(did["active"] for did in server.truth().values()) == 5
    assert len({r.id for r in journal.records}) == len(journal.records)
    window = [r for r in journal.records if r.scheduled_ns >= journal.header.window_start_ns]
    assert Counter(r.prompt_id for r in window) == Counter(f"q{i}" for i in range(40))


@pytest.mark.parametrize("how", ["stop_at", "cancel_at"])
def test_a_fleet_that_is_stopped_leaves_one_whole_journal(
    emulator: StartEmulator, block: RunBlock, how: str
) -> None:
    server = emulator("--ttft", "300ms", "--tokens", "1")
    journal = block(
        server.endpoint,
        {"rate": 20, "arrivals": "constant", "requests": 200},
        workers=2,
        **{how: 5},
    )
    assert journal.end.end == "interrupted"
    assert sorted(r.id for r in journal.records) == list(range(200))
    assert {r.failure for r in journal.records if r.sent_ns is None} == {"cancelled"}
    if how == "stop_at":
        assert {r.failure for r in journal.records if r.sent_ns is not None} == {None}


@pytest.mark.parametrize(
    ("second", "ids", "ended"),
    [
        ("record end", [1, 2], True),
        ("record", [1, 2], False),  # killed between two records
        ("record torn", [1, 2], False),  # and in the middle of one
        ("record torn-end", [1, 2], False),  # or of the last line
        ("missing", [1], False),  # and before it began
    ],
)
def test_parts_of_killed_workers_are_merged_as_far_as_they_go(
    tmp_path: Path, second: str, ids: list[int], ended: bool
) -> None:
    end = lines(JournalEnd(end="complete", ended_ns=9, window_end_ns=9))
    parts = [tmp_path / "b.part-0", tmp_path / "b.part-1"]
    for number, (part, what) in enumerate(zip(parts, ("record end", second), strict=True), start=1):
        record = lines(RequestRecord(id=number, prompt_id="q", scheduled_ns=0, done_ns=number))
        pieces = {"record": record, "end": end, "torn": record[:20], "torn-end": end[:20]}
        if what != "missing":
            content = b"".join(pieces[word] for word in what.split())
            part.write_bytes(lines(header(planned=2)) + content)
    journal = tmp_path / "b.jsonl"
    assert (merge(parts, journal) is not None) is ended
    _, *rest = journal.read_bytes().splitlines()
    assert [msgspec.json.decode(line).get("id") for line in rest] == [*ids, *[None] * ended]
    assert not any(part.exists() for part in parts)


def test_a_worker_that_dies_is_said(emulator: StartEmulator, block: RunBlock) -> None:
    server = emulator("--tokens", "1")

    def kill_one() -> None:
        while not (
            workers := [
                c for c in psutil.Process().children() if "loadgen.sending.worker" in c.cmdline()
            ]
        ):
            time.sleep(0.05)
        time.sleep(0.5)
        workers[0].kill()

    threading.Thread(target=kill_one, daemon=True).start()
    with pytest.raises(SystemFailed, match="worker"):
        block(server.endpoint, {"rate": 20, "duration": "20s"}, workers=2)


def test_workers_end_when_their_parent_is_gone(emulator: StartEmulator, tmp_path: Path) -> None:
    server = emulator("--tokens", "1")
    code = CHILD.replace('"warmup": "0s"', '"warmup": "0s", "workers": 2')
    path = tmp_path / "killed.jsonl"
    parent = subprocess.Popen([sys.executable, "-c", code, server.endpoint.base_url, str(path)])
    parts = [path.with_suffix(f".part-{worker}") for worker in (0, 1)]
    while not all(part.exists() and part.stat().st_size > 2000 for part in parts):
        time.sleep(0.05)
        assert parent.poll() is None
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(200):
        if all(b'"ended_ns"' in part.read_bytes()[-400:] for part in parts):
            return
        time.sleep(0.05)
    pytest.fail("a worker went on without its parent")


def test_the_workers_of_one_machine_of_several_divide_its_share(
    emulator: StartEmulator, tmp_path: Path
) -> None:
    """Two processes send every third arrival from the second."""
    server = emulator("--tokens", "1")
    of = {"stages": [{"rate": 60, "requests": 30}], "warmup": "0s", "workers": 2}
    config = WorkloadConfig.model_validate(of)
    stage, path = config.stages[0], tmp_path / "block.jsonl"
    plan = BlockPlan(
        server.endpoint, stage, 1, 0, questions(50), "plain", config,
        share=WorkerShare(1, 3), shared_start=SharedStart(3, 0, 500),
    )  # fmt: skip

    async def soon() -> Origin:
        return Origin.ahead(10**8)

    run(run_block(plan, path, Silent(), asyncio.Event(), soon))
    journal, times = read_journal(path), schedule(stage, 0, 1, 0.0).times_ns.tolist()
    by_id = sorted(journal.records, key=lambda r: r.id)
    assert [(r.id, r.scheduled_ns) for r in by_id] == list(enumerate(times))[1::3]
    assert {r.failure for r in by_id} == {None} and journal.end is not None
    head = journal.header
    assert (head.workers, head.machines, head.planned) == (2, 1, 30)
    assert head.clock_bound_ns == 500


def test_a_shared_start_is_kept_or_missed_as_a_whole() -> None:
    origin_ns = time.monotonic_ns() + 10**12
    assert run(SharedStart(2, origin_ns, None).origin()).monotonic_ns == origin_ns
    with pytest.raises(LateStart, match=r"ready .* s after the block began on the other machines"):
        run(SharedStart(2, time.monotonic_ns() - 10**9, None).origin())
