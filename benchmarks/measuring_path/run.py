"""`python -m benchmarks.measuring_path.run`: the matrix as a Markdown table and as JSON lines."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil

from benchmarks.measuring_path import wakeups
from benchmarks.measuring_path.floor import floor
from benchmarks.measuring_path.score import (
    Score,
    errors_us,
    firsts_us,
    from_promptest,
    rate_of,
    span_ns,
    table,
)
from benchmarks.measuring_path.tool import Load, Tool
from benchmarks.measuring_path.tools import installed
from benchmarks.measuring_path.watch import Watch
from foundation.processor import processor_name
from loadgen.calibration import measure_requests
from loadgen.emulator.process import emulator, read_truth
from loadgen.event_loop import run
from loadgen.transport.receiver import KIND

_CLIENT_CORE, _EMULATOR_CORE = 0, 1


def main() -> None:
    """Runs every tool under every load and prints the table."""
    args = _arguments()
    if args.quick:
        args.rates, args.streams, args.runs = [40_000], [800, 1000], 2
    tools = [tool for tool in installed() if not args.tools or tool.name in args.tools]
    print(
        f"{_machine()}; client on core {_CLIENT_CORE}, emulator on core {_EMULATOR_CORE}; "
        f"load average {os.getloadavg()[0]:.1f}\n"
    )
    scores = []
    loads = [(rate, streams, args.seconds) for rate in args.rates for streams in args.streams]
    if args.many_streams:
        loads.append((float(args.many_streams), args.many_streams, 2 * args.seconds))
    with args.out.open("w") as out:
        for rate, streams, seconds in loads:
            for _ in range(args.runs):
                for tool in tools:
                    score = measure(tool, rate, streams, seconds, args.ttft)
                    scores.append(score)
                    out.write(json.dumps(asdict(score)) + "\n")
                    summary = (
                        f"p99 {score.p99:,.0f} µs, {score.cpu_us:.1f} µs/event, "
                        f"emulator {score.emulator_us:.1f}"
                    )
                    print(
                        f"  {tool.name}: {streams} streams, {rate:,.0f} events/s: {summary}",
                        flush=True,
                    )
    print(f"\n{table(scores)}\n")
    for _ in range(args.runs if args.request_rate else 0):
        sends = run(measure_requests(args.request_rate, args.seconds, _EMULATOR_CORE))
        print(
            f"{sends.asked:,.0f} requests/s, constant: p99 of sent - scheduled "
            f"{sends.slip_p99_ms:.3f} ms, "
            f"{sends.achieved:.2%} sent, {sends.failed} failed, core {sends.busy:.0%} busy",
            flush=True,
        )
        subprocess.run(
            [
                sys.executable,
                "-m",
                wakeups.__name__,
                str(_CLIENT_CORE),
                str(args.request_rate),
                str(args.seconds),
            ]
        )
    if least := floor(args.rates[-1], args.streams[-1], args.seconds):
        print(
            f"the kernel alone, {args.streams[-1]} streams of {args.rates[-1]:,.0f} events/s in "
            f"all, in C: {least}"
        )
    print(f"\nload average {os.getloadavg()[0]:.1f} at the end")


def measure(tool: Tool, rate: float, streams: int, seconds: float, ttft: str = "1s") -> Score:
    """One run of one tool: lockstep batches of `streams` events, `rate` events/s in all."""
    load = Load(streams, tokens=max(2, round(seconds * rate / streams)))
    with tempfile.TemporaryDirectory() as folder:
        truth_file, out = Path(folder) / "truth.jsonl", Path(folder) / "result.json"
        step = (
            "--lockstep",
            f"{streams / rate * 1e3:.6f}ms",
            "--tokens",
            str(load.tokens),
            "--ttft",
            ttft,
        )
        with emulator(*step, truth=truth_file, core=_EMULATOR_CORE) as endpoint:
            server = max(psutil.Process().children(), key=psutil.Process.create_time).pid
            client = subprocess.Popen(
                ["taskset", "-c", str(_CLIENT_CORE), *tool.command(endpoint.base_url, load, out)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            watch, emulator_watch = Watch(client.pid), Watch(server)
            _, complaints = client.communicate(timeout=600)
        if client.returncode:
            raise SystemExit(f"{tool.name} failed:\n{complaints[-2000:]}")
        truth = {row["prompt"]: row for row in read_truth(truth_file)}
        arrivals = tool.arrivals(load, out)
        if tool.own_origin:
            arrivals = from_promptest(truth, arrivals)
        first_ns, last_ns = span_ns(truth)
        events = sum(len(row["event_ns"]) for row in truth.values())
        # One that can't keep up is still at work when the last event has long been sent.
        user_s, system_s = watch.between(
            first_ns, max(last_ns, *(float(np.nanmax(stamps)) for stamps in arrivals.values()))
        )
        cpu_s = tool.cpu_s(out) or user_s + system_s
    off = errors_us(truth, arrivals)
    p50, p99, p999 = (float(p) for p in np.percentile(off, [50, 99, 99.9]))
    return Score(
        tool=tool.name,
        streams=streams,
        asked_rate=rate,
        rate=rate_of(truth),
        events=events,
        cpu_us=cpu_s / events * 1e6,
        system_us=system_s / events * 1e6,
        emulator_us=sum(emulator_watch.between(first_ns, last_ns)) / events * 1e6,
        first=float(np.mean(firsts_us(truth, arrivals))),
        p50=p50,
        p99=p99,
        p999=p999,
        lost=streams - len(arrivals),
        peak_mb=watch.peak_bytes / 2**20,
        note=tool.note,
    )


def _machine() -> str:
    return (
        f"{processor_name()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {KIND} receiver"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measuring_path.run", description=__doc__
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[10_000, 20_000, 40_000, 75_000], help="events/s"
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[200, 800, 1000, 1600])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the loads that the README quotes, twice: about five minutes with three tools",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each run")
    parser.add_argument(
        "--ttft",
        default="1s",
        help="from a request to its first event: time for a tool to open the other streams",
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--many-streams",
        type=int,
        default=5000,
        help="one more load: so many streams, an event/s each; 0: leave out",
    )
    parser.add_argument(
        "--request-rate",
        type=float,
        default=2000.0,
        help="short requests/s for the send accuracy; 0: leave out",
    )
    parser.add_argument("--tools", nargs="+", help="names as in the table")
    parser.add_argument(
        "--out", type=Path, default=Path(tempfile.gettempdir()) / "measuring_path.jsonl"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
