"""Load from two machines as far apart as one kernel makes them: Ray nodes in networks of their own.

The second node lies in a network namespace behind a link that can be cut, and in a time namespace
whose CLOCK_MONOTONIC is 250 ms ahead. An emulator answers on each side of the link, at the same
address, so a cut parts the nodes and no request from its server. Both emulators have the clock of
the first node: what they log is the truth.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from foundation.errors import BadInput, SystemFailed
from foundation.http.endpoint import Endpoint
from loadgen.event_loop import run
from loadgen.sending.nodes.ray_nodes import ray_nodes
from tests.loadgen.conftest import Emulator, Journal, read_journal
from tests.loadgen.test_nodes import plan_of
from tests.loadgen.test_ray import MARK, WITHIN_S, check_whole, processes, send, senders

pytestmark = pytest.mark.slow

AHEAD_NS = 250_000_000
HERE, THERE, SERVER = "10.231.77.1", "10.231.77.2", "10.231.78.1"
SPACE, LINK, FAR_END = "dyno-apart", "dyno-near", "dyno-far"
PORT = 6411
_STEP_INTO_THE_FUTURE = f"""
import ctypes, os, sys
CLONE_NEWTIME = 0x80
if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWTIME):
    sys.exit(os.strerror(ctypes.get_errno()))
with open("/proc/self/timens_offsets", "w") as offsets:
    offsets.write("monotonic 0 {AHEAD_NS}\\n")
if os.fork() == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
os.wait()
"""
"""Runs a command, as the first child of this process, in a time namespace of its own."""
_IN_SPACE = ["ip", "netns", "exec", SPACE]
_IN_THE_FUTURE = [*_IN_SPACE, sys.executable, "-c", _STEP_INTO_THE_FUTURE]


@dataclass
class Apart:
    """Two Ray nodes, an emulator beside each, and the link between them."""

    folder: Path
    emulators: list[Emulator] = field(default_factory=list)

    def start(self) -> None:
        """Starts nodes and emulators."""
        os.environ[MARK] = str(os.getpid())
        common = ["--num-cpus=1", "--block", "--disable-usage-stats"]
        near = [f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        self._ray([], ["--head", f"--node-ip-address={HERE}", *near, *common])
        far = [f"--address={HERE}:{PORT}", f"--node-ip-address={THERE}"]
        self._ray(_IN_THE_FUTURE, [*far, *common])
        for inside in ([], _IN_SPACE):
            log = self.folder / f"truth-{len(self.emulators)}.jsonl"
            flags = ["--host", SERVER, "--port", "8431", "--tokens", "4", "--truth", str(log)]
            command = [*inside, sys.executable, "-m", "loadgen.emulator", *flags]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            self.emulators.append(Emulator(process, port, log))

    def _ray(self, inside: list[str], flags: list[str]) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        with (self.folder / "ray.log").open("a") as log:
            subprocess.Popen([*inside, ray, "start", *flags], stdout=log, stderr=log)

    def stop(self) -> None:
        """Ends all that was started; Ray's own processes need a while, and some a second word."""
        for emulator in self.emulators:
            emulator.stop()
        started = list(processes())
        for process in started:
            process.terminate()
        for process in psutil.wait_procs(started, 10)[1]:
            process.kill()

    def wait(self) -> None:
        """Returns once both nodes are there."""

        async def look() -> int:
            async with ray_nodes(self.address) as everyone:
                return len(everyone)

        deadline_s = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline_s:
            with suppress(BadInput, SystemFailed):
                if run(look()) == 2:
                    return
            time.sleep(1.0)
        raise TimeoutError((self.folder / "ray.log").read_text()[-2000:])

    @property
    def address(self) -> str:
        return f"{HERE}:{PORT}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("variant", f"http://{SERVER}:{self.emulators[0].port}/v1", "emulated")

    def cut(self) -> None:
        _ip("link", "set", LINK, "down")

    def join(self) -> None:
        _ip("link", "set", LINK, "up")

    def served(self) -> list[dict[str, int]]:
        """What each emulator served by then: the moment that a request came, ns, by its prompt."""
        return [
            {row["prompt"]: row["arrived_ns"] for row in map(json.loads, _whole_lines(each.log))}
            for each in self.emulators
        ]


def under_way(apart: Apart, act: Callable[[], None]) -> threading.Thread:
    """Acts once both nodes have sent something."""

    def wait_and_act() -> None:
        while not all(apart.served()):
            time.sleep(0.1)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def _whole_lines(file: Path) -> list[str]:
    return file.read_text().rpartition("\n")[0].splitlines()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _lay_link() -> None:
    _ip("netns", "add", SPACE)
    _ip("link", "add", LINK, "type", "veth", "peer", "name", FAR_END)
    _ip("link", "set", FAR_END, "netns", SPACE)
    _ip("address", "add", f"{HERE}/24", "dev", LINK)
    _ip("link", "set", LINK, "up")
    _ip("address", "add", f"{SERVER}/32", "dev", "lo")
    for words in (
        ["address", "add", f"{THERE}/24", "dev", FAR_END],
        ["link", "set", FAR_END, "up"],
        ["link", "set", "lo", "up"],
        ["address", "add", f"{SERVER}/32", "dev", "lo"],
    ):
        subprocess.run([*_IN_SPACE, "ip", *words], check=True, capture_output=True)


def _take_link_away() -> None:
    for words in (
        ["address", "del", f"{SERVER}/32", "dev", "lo"],
        ["link", "del", LINK],
        ["netns", "del", SPACE],
    ):
        subprocess.run(["ip", *words], check=False, capture_output=True)


@pytest.fixture
def apart() -> Iterator[Apart]:
    pytest.importorskip("ray")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and ip of iproute2")
    if not Path("/proc/self/timens_offsets").exists():
        pytest.skip("this kernel has no time namespaces")
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        _take_link_away()
        nodes = Apart(Path(folder))
        try:
            _lay_link()
            nodes.start()
            nodes.wait()
            yield nodes
        finally:
            nodes.stop()
            _take_link_away()


def of_nodes(journal: Journal, apart: Apart) -> list[list[int]]:
    """For each node: when its requests reached its emulator, less when it says it sent them, ns."""
    origin_ns, late = journal.header.origin_monotonic_ns, []
    for arrived in apart.served():
        own = [r for r in journal.records if f"question {r.id}" in arrived]
        late.append([arrived[f"question {r.id}"] - origin_ns - (r.sent_ns or 0) for r in own])
    assert sum(map(len, late)) == len(journal.records)
    return late


def test_a_clock_that_is_ahead_is_found_within_a_millisecond(apart: Apart, tmp_path: Path) -> None:
    plan = plan_of(apart.endpoint, {"rate": 40, "requests": 200}, [], workers=1)
    journal = send(apart.address, plan, tmp_path / "block.jsonl", 2)
    assert plan.timetable is not None and journal.end is not None
    assert journal.end.end == "complete" and journal.header.machines == 2
    by_id = sorted(journal.records, key=lambda record: record.id)
    assert [r.scheduled_ns for r in by_id] == plan.timetable.times_ns.tolist()
    assert {record.failure for record in by_id} == {None}
    for late in of_nodes(journal, apart):
        print(f"{len(late)} requests, {np.median(late) / 1e6:.3f} ms from sent to served")
        assert len(late) == 100
        assert 0 <= np.median(late) < 1e6
    assert journal.header.clock_bound_ns is not None
    assert journal.header.clock_bound_ns < AHEAD_NS / 10


def test_a_cut_of_five_seconds_loses_nothing(apart: Apart, tmp_path: Path) -> None:
    plan, path = plan_of(apart.endpoint, {"rate": 50, "duration": "12s"}, []), tmp_path / "b.jsonl"

    def cut() -> None:
        apart.cut()
        time.sleep(5.0)
        apart.join()

    cutting = under_way(apart, cut)
    journal = send(apart.address, plan, path, 2)
    cutting.join()
    check_whole(journal, plan)
    for late in of_nodes(journal, apart):
        assert 0 <= np.median(late) < 1e6


def test_a_node_behind_a_link_that_stays_cut_costs_its_own_requests(
    apart: Apart, tmp_path: Path
) -> None:
    plan, path = plan_of(apart.endpoint, {"rate": 50, "duration": "600s"}, []), tmp_path / "b.jsonl"
    cutting = under_way(apart, apart.cut)
    began_s = time.monotonic()
    with pytest.raises(SystemFailed, match=r"node .* was lost .* planned requests of block 1"):
        send(apart.address, plan, path, 2)
    cutting.join()
    assert time.monotonic() - began_s < WITHIN_S
    journal = read_journal(path)
    assert journal.end is None
    [parity] = {record.id % 2 for record in journal.records}
    assert plan.timetable is not None
    assert len({r.id for r in journal.records}) == len(journal.records)
    assert len(journal.records) == len(range(parity, len(plan.timetable.times_ns), 2))
    apart.join()
    deadline_s = time.monotonic() + 2 * WITHIN_S
    while senders() and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert not senders()
