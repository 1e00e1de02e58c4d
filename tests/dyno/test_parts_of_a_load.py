"""A load that two hosts share, on the emulator: the merge has the arrivals of one whole run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from dyno.commands.merge import merge_load
from dyno.experiment.endpoints import endpoint_of
from dyno.experiment.from_flags.load_part import LoadPart, text_of
from dyno.experiment.schema import Experiment
from dyno.pipeline.blocks import LoadBlock, missing_blocks
from dyno.pipeline.part import PartLoad, of_any_machine, send_part
from dyno.pipeline.prepare import prepare
from dyno.pipeline.prepared import Prepared
from foundation.errors import SystemFailed
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from foundation.run.part import read_part
from foundation.run.records import RequestRecord
from loadgen.event_loop import run as run_loop
from loadgen.schedule.arrivals import SECOND, WorkerShare
from loadgen.sending.shared_start import SharedStart
from loadgen.transport import clocks, time_of_day
from tests.dyno.test_load_flags import made

PLANNED = 20


def sessions(folder: Path) -> Path:
    """Conversations of one to three turns."""
    file = folder / "sharegpt.json"
    turns = [
        [
            {"from": who, "value": f"{who} {n} {turn}"}
            for turn in range(n % 3 + 1)
            for who in ("human", "gpt")
        ]
        for n in range(PLANNED)
    ]
    file.write_text(json.dumps([{"id": str(n), "conversations": t} for n, t in enumerate(turns)]))
    return file


def load(url: str, folder: Path) -> Experiment:
    return made(
        {"url": url, "model": "emulated"},
        {"sharegpt": sessions(folder), "turns": "3"},
        rates=["40"],
        requests=PLANNED,
        blocks=1,
        warmup="0s",
        seed=7,
    )


class SoonAfterWarmUp(LoadPart):
    """A part that begins a second after the first host is warm: a busy machine is late at once."""

    shared: ClassVar[dict[str, int]] = {}

    def starts_ns(self, lengths_ns: Sequence[int]) -> Iterator[int]:
        start_ns = self.shared.setdefault(str(self.start), time.time_ns() + SECOND)
        return iter([start_ns for _ in lengths_ns])


def prepared_for(part: LoadPart, experiment: Experiment, folder: Path) -> Prepared:
    return of_any_machine(prepare(part.applied(experiment), folder, Silent()))


def send(experiment: Experiment, parts: list[LoadPart], folder: Path, whole: Path) -> list[Path]:
    """Sends the parts at once, each in a directory of its own, and beside them all of the load."""
    prepared = [prepared_for(part, experiment, folder) for part in parts]
    runs = [folder / f"part{part.number}" for part in parts]
    [block] = missing_blocks(prepared[0], ["url"], RunDirectory(whole))
    endpoint = endpoint_of(experiment.variants[0], experiment.workload.api)

    async def together() -> None:
        for run in runs:
            run.mkdir()
        await asyncio.gather(
            *(
                send_part(each, part, RunDirectory(run), Silent())
                for each, part, run in zip(prepared, parts, runs, strict=True)
            ),
            block.run({"url": endpoint}, Silent(), asyncio.Event()),
        )

    run_loop(together())
    return runs


def plan(run: Path) -> bytes:
    """Number, prompt and time of every session, and number and prompt of its further turns."""
    [journal] = run.glob("load/url/*/block-01.jsonl")
    lines = journal.read_bytes().splitlines()[1:-1]
    records = sorted(
        (msgspec.json.decode(x, type=RequestRecord) for x in lines), key=lambda r: r.id
    )
    assert all(record.failure is None for record in records)
    times = [(r.id, r.prompt_id, r.scheduled_ns if r.id < PLANNED else None) for r in records]
    return json.dumps(times).encode()


def test_two_hosts_send_the_arrivals_of_one(url: str, tmp_path: Path) -> None:
    start = datetime.now(UTC)
    parts: list[LoadPart] = [SoonAfterWarmUp(number, 2, start, 10.0) for number in (1, 2)]
    whole = tmp_path / "whole"
    runs = send(load(url, tmp_path), parts, tmp_path, whole)
    merge_load(runs, tmp_path / "merged", partial=False, as_json=False)
    assert plan(tmp_path / "merged" / "load") == plan(whole)
    for part, run in zip(parts, runs, strict=True):
        record = read_part(run)
        assert (record.share, record.of, record.start_at) == (part.number, 2, text_of(start))
        assert not any((run / f"{name}.json").exists() for name in ("summary", "verdict"))


def test_a_host_that_is_late_says_by_how_much(url: str, tmp_path: Path) -> None:
    late = LoadPart(1, 2, datetime.now(UTC) - timedelta(seconds=5), 10.0)
    prepared = prepared_for(late, load(url, tmp_path), tmp_path)
    with pytest.raises(SystemFailed) as error:
        run_loop(send_part(prepared, late, RunDirectory(tmp_path), Silent()))
    assert re.fullmatch(
        r"part 1 of 2: block 1 of rate-40 began at \d\d:\d\d:\d\dZ, and this host was ready "
        r"\d+\.\d s late; write a later --start-at on all hosts",
        str(error.value),
    )


def test_a_clock_that_somebody_sets_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a part's later blocks nobody knows then how far they lie from the other hosts'."""
    offset_ns, said = 10**9, list[str]()
    monkeypatch.setattr(clocks, "offset_ns", lambda: offset_ns)
    monkeypatch.setattr(time_of_day, "kernel_bound_ns", lambda: 700)

    class Said(Silent):
        def log(self, line: str) -> None:
            said.append(line)

    load = PartLoad(LoadPart(2, 3, datetime.now(UTC), 10.0), RunDirectory(tmp_path), Said())
    stage = made(rates=["1"]).workload.stages[0]
    block = LoadBlock("url", "plain", stage, 1, [], made(rates=["1"]).workload, tmp_path / "b")
    assert load.shared(block, 50).shared_start == SharedStart(3, 10**9 + 50, 700)
    offset_ns -= 250_000_000
    for _ in range(2):
        shared = load.shared(block, 50)
        assert shared.shared_start == SharedStart(3, 750_000_050, None)
        assert shared.share == WorkerShare(1, 3)
    assert [line[:55] for line in said] == [
        "warning: somebody set the time of day by 250 ms since t"
    ]


@pytest.mark.slow
def test_a_host_that_is_killed_mid_block(url: str, tmp_path: Path) -> None:
    """Two hosts as two processes. What the dead one sent counts once, what it did not is said."""
    start = datetime.now(UTC) + timedelta(seconds=30)
    flags = ["--url", url, "--model", "emulated", "--prompt", "Hi", "--rate", "40", "--blocks", "2"]
    flags += ["--duration", "8s", "--warmup", "0s", "--gap", "4s", "--start-at", text_of(start)]
    hosts = [
        subprocess.Popen(
            [sys.executable, "-m", "dyno.cli", "load", *flags, "--out", str(tmp_path / share)],
            env={**os.environ, "DYNO_SHARE": f"{share}/2"},
        )
        for share in "12"
    ]
    time.sleep((start - datetime.now(UTC)).total_seconds() + 2.5)
    hosts[1].send_signal(signal.SIGKILL)
    assert [host.wait(60) for host in hosts] == [0, -signal.SIGKILL]
    merge = ["merge", str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(tmp_path / "runs")]
    merged = subprocess.run(
        [sys.executable, "-m", "dyno.cli", *merge], capture_output=True, text=True, check=True
    )
    assert re.search(
        r"part 2 of 2 .* planned requests of block 1 of rate-40 left no record", merged.stdout
    )
    assert re.search(r"INVALID: not all of 2 machines sent to the end of block 1, 2", merged.stdout)
    for block in (1, 2):
        journal = tmp_path / f"runs/load/load/url/rate-40/block-0{block}.jsonl"
        rows = [
            msgspec.json.decode(line, type=RequestRecord)
            for line in journal.read_bytes().splitlines()[1:]
        ]
        ids = [row.id for row in rows]
        assert len(set(ids)) == len(ids)
        own = [number for number in ids if number % 2]
        assert own == [] if block == 2 else 20 < len(own) < 60
