"""`python -m benchmarks.attribution.run`: known delays of an emulator, and of the client, one at a
time.

Each is a `dyno load` of its own, with the emulator's engine record. A delay must be found in its
segment within 10 %, and move no other segment's mean by more than 5 ms. Prints a table, and exits 1
if a line fails. It takes a minute or two and wants a quiet machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WITHIN, UNMOVED_MS = 0.1, 5.0
TOKENS, ITL_MS, TTFT_MS, DELAY_MS = 20, 10, 50, 200
USUAL = {"--tokens": f"{TOKENS}", "--itl": f"{ITL_MS}ms", "--ttft": f"{TTFT_MS}ms"}
LOAD = ("--model", "m", "--rate", "20", "--requests", "200", "--blocks", "2", "--warmup", "0s")
STOP_EVERY_S = 1.0

Segments = dict[str, float]
"""The mean of each segment of the requests' time, ms."""
Stops = list[tuple[int, int]]
"""When the client was stopped, from and to, CLOCK_MONOTONIC ns."""


@dataclass(frozen=True)
class Delay:
    """What is put in: the emulator's flags, the segment, and by how much its mean grows, ms."""

    words: str
    segment: str
    flags: dict[str, str]
    expected: float


DELAYS = (
    Delay("200 ms before the queue", "before_queue", {"--front": "200ms"}, DELAY_MS),
    Delay("200 ms of queue", "queued", {"--queue": "200ms"}, DELAY_MS),
    Delay("200 ms of prefill", "prefill", {"--ttft": f"{TTFT_MS + DELAY_MS}ms"}, DELAY_MS),
    Delay("2x step time", "decode", {"--itl": f"{2 * ITL_MS}ms"}, ITL_MS * (TOKENS - 1)),
    Delay("200 ms at the end", "end_of_answer", {"--end": "200ms"}, DELAY_MS),
)


def main() -> int:
    """Prints a row a delay."""
    print("| put in | segment | ms | found, ms | what else moved most, ms | |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        base = measured(Path(folder) / "base", {})[0]
        results = []
        for number, delay in enumerate(DELAYS):
            segments, _ = measured(Path(folder) / f"{number}", delay.flags)
            results.append(row(delay.words, {delay.segment: delay.expected}, base, segments))
        run = Path(folder) / "stopped"
        segments, stops = measured(run, {}, stopped=True)
        results.append(row("200 ms of client load", stalls(run, stops), base, segments))
    return 0 if all(results) else 1


def row(words: str, expected: Segments, base: Segments, segments: Segments) -> bool:
    """Prints a line for each segment that should grow, and says whether all is as it should be."""
    moved = {key: segments[key] - base[key] for key in segments}
    most = max((key for key in moved if key not in expected), key=lambda key: abs(moved[key]))
    other = moved[most]
    good = True
    for key, ms in expected.items():
        fine = abs(moved[key] - ms) <= WITHIN * ms and abs(other) <= UNMOVED_MS
        good = good and fine
        verdict = "ok" if fine else "FAILS"
        print(
            f"| {words} | {key} | {ms:.1f} | {moved[key]:.1f} | {most} {other:+.1f} | {verdict} |",
            flush=True,
        )
    return good


def measured(run: Path, flags: dict[str, str], stopped: bool = False) -> tuple[Segments, Stops]:
    """Loads an emulator with these flags, and reports with its engine record."""
    run.mkdir()
    record = run / "record.jsonl"
    with emulator(USUAL | flags | {"--engine-record": f"{record}"}) as url:
        command = [*_dyno("load"), "--url", url, "--prompt", "hi", "--out", str(run), *LOAD]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stops = _stop_now_and_then(child, run) if stopped else []
        child.wait()
    (run / "load" / "engine").mkdir(exist_ok=True)
    shutil.copy(record, run / "load" / "engine" / "emulator.jsonl")
    subprocess.run([*_dyno("report"), str(run / "load")], stdout=subprocess.DEVNULL, check=False)
    summary = json.loads((run / "load" / "summary.json").read_text())
    waterfall = summary["variants"][0]["stages"][0]["waterfall"]
    assert waterfall["source"] == "engine record", waterfall
    return {key: each["mean"]["value"] for key, each in waterfall["segments"].items()}, stops


def _dyno(command: str) -> list[str]:
    return [sys.executable, "-m", "dyno.cli", command]


@contextmanager
def emulator(flags: dict[str, str]) -> Iterator[str]:
    """An emulator's URL while it runs."""
    words = [word for pair in flags.items() for word in pair]
    child = subprocess.Popen(
        [sys.executable, "-m", "loadgen.emulator", "--port", "0", *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{json.loads(child.stdout.readline())['port']}/v1"
    finally:
        child.terminate()
        child.wait()


def _stop_now_and_then(child: subprocess.Popen[bytes], run: Path) -> Stops:
    """Stops the client for 200 ms every second of its load, until it is over."""
    stops: Stops = []
    while child.poll() is None:
        time.sleep(STOP_EVERY_S - DELAY_MS / 1e3)
        if child.poll() is None and any(run.glob("load/load/*/*/block-*.jsonl")):
            begin = time.monotonic_ns()
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(DELAY_MS / 1e3)
            os.kill(child.pid, signal.SIGCONT)
            stops.append((begin, time.monotonic_ns()))
    return stops


def stalls(run: Path, stops: Stops) -> Segments:
    """By how much the stops must have delayed sending and reading, on average, ms.

    A request that was due during a stop is sent at its end. An answer whose last chunk came during
    a stop is read at its end.
    """
    sent, read = [], []
    for file in run.glob("load/load/*/*/block-*.jsonl"):
        header, *lines = (json.loads(line) for line in file.read_text().splitlines())
        origin = header["origin_monotonic_ns"]
        for record in lines:
            if record.get("chunk_ns") and record["failure"] is None:
                sent.append(_left(origin + record["scheduled_ns"], stops))
                read.append(_left(origin + sum(record["chunk_ns"]), stops))
    return {"slip": sum(sent) / len(sent), "client_lag": sum(read) / len(read)}


def _left(moment: int, stops: Stops) -> float:
    """How long a stop that holds the moment goes on after it, ms."""
    return sum((end - moment) / 1e6 for begin, end in stops if begin <= moment < end)


if __name__ == "__main__":
    raise SystemExit(main())
