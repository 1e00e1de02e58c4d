"""An emulator in its own process, and a fixture that runs a block and reads both sides' logs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from foundation.run.records import JournalEnd, JournalHeader, RequestRecord
from loadgen import BlockPlan, Question, run_block
from loadgen.config import WorkloadConfig
from loadgen.event_loop import run
from loadgen.protocol.sse import whole_events_in_python
from loadgen.transport.chunked_coding import whole_chunks_in_python
from loadgen.transport.receiver import KIND


@dataclass
class Emulator:
    """A running emulator. `truth` is complete once it was stopped."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("variant", f"http://127.0.0.1:{self.port}/v1", "emulated")

    def truth(self) -> dict[str, dict[str, Any]]:
        """What happened to each prompt, after stopping."""
        self.stop()
        return {row["prompt"]: row for row in map(json.loads, self.log.read_text().splitlines())}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@dataclass
class Journal:
    """A journal as JSON says it, read without the product's reader."""

    header: JournalHeader
    records: list[RequestRecord]
    end: JournalEnd | None


def read_journal(path: Path) -> Journal:
    lines = path.read_bytes().splitlines()
    end = None
    if b'"ended_ns"' in lines[-1]:
        end = msgspec.json.decode(lines.pop(), type=JournalEnd)
    return Journal(
        msgspec.json.decode(lines[0], type=JournalHeader),
        [msgspec.json.decode(line, type=RequestRecord) for line in lines[1:]],
        end,
    )


def questions(count: int, word: str = "question") -> list[Question]:
    return [Question(f"q{i}", [{"role": "user", "content": f"{word} {i}"}]) for i in range(count)]


class StartEmulator(Protocol):
    """Starts an emulator with command-line arguments."""

    def __call__(self, *args: str) -> Emulator: ...


class RunBlock(Protocol):
    """Runs one block of a one-stage workload and reads its journal."""

    def __call__(
        self,
        endpoint: Endpoint,
        stage: dict[str, Any],
        asked: list[Question] | None = None,
        stop_at: int = 0,
        cancel_at: int = 0,
        **workload: Any,
    ) -> Journal: ...


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[StartEmulator]:
    """Starts emulators with command-line arguments; stops them at the end."""
    started: list[Emulator] = []

    def start(*args: str) -> Emulator:
        log = tmp_path / f"truth-{len(started)}.jsonl"
        command = [sys.executable, "-m", "loadgen.emulator", "--truth", str(log), *args]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        started.append(Emulator(process, json.loads(process.stdout.readline())["port"], log))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(params=["compiled", "python"])
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sockets are read by this one, and parsed in the same language."""
    if request.param == "python":
        monkeypatch.setattr("loadgen.transport.receiver.KIND", "python")
        monkeypatch.setattr("loadgen.transport.chunked_coding.whole_chunks", whole_chunks_in_python)
        monkeypatch.setattr("loadgen.protocol.sse.whole_events", whole_events_in_python)
    else:
        need_compiled()
    return request.param


def need_compiled() -> None:
    """Skip without a C compiler. With one, an installation without the compiled part is a fault."""
    if KIND != "compiled":
        assert shutil.which(os.environ.get("CC", "cc")) is None, (
            "loadgen/_compiled.c was not compiled: install the project again"
        )
        pytest.skip("no C compiler here")


class Bell(Silent):
    """Calls back once so many records were written."""

    def __init__(self, count: int, ring: Callable[[], object]) -> None:
        self.left, self.ring = count, ring

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            self.ring()


@pytest.fixture
def block(tmp_path: Path) -> RunBlock:
    """Runs one block of a one-stage workload and reads its journal.

    `stop_at`, `cancel_at`: after so many records the stop event is set, or the block is cancelled.
    """

    def go(
        endpoint: Endpoint,
        stage: dict[str, Any],
        asked: list[Question] | None = None,
        stop_at: int = 0,
        cancel_at: int = 0,
        **workload: Any,
    ) -> Journal:
        config = WorkloadConfig.model_validate({"stages": [stage], "warmup": "0s", **workload})
        plan = BlockPlan(
            endpoint, config.stages[0], 1, 0, asked or questions(1000), "plain", config
        )
        path = tmp_path / "block.jsonl"

        async def main() -> None:
            stop = asyncio.Event()
            bell = Bell(stop_at or cancel_at, lambda: stop.set() if stop_at else task.cancel())
            task = asyncio.create_task(run_block(plan, path, bell, stop))
            try:
                await task
            except asyncio.CancelledError:
                assert cancel_at

        run(main())
        return read_journal(path)

    return go
