"""`make bench-analysis`: time, CPU and peak memory of `dyno report` as a whole process on one core,
on journals that are drawn.

Two reports of one run are made; exit code 1 where they are not the same bytes, or where the larger
cost is over the target.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.analysis.journals import Size, write_run
from foundation.processor import processor_name

MILLION = 1_000_000
MOST_S, MOST_GB = 60.0, 2.0
"""For a million requests of a hundred chunks; a smaller run must stay under both all the same."""
_OUTPUTS = ("summary.json", "verdict.json", "report.html", "report.md")


@dataclass(frozen=True)
class Cost:
    """Time and peak memory of one analysis."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def main() -> int:
    """Writes a run, analyses it a few times and prints a table."""
    size, folder = _arguments()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        run = Path(made) / "run"
        write_run(run, size)
        journals = sum(file.stat().st_size for file in run.rglob("*.jsonl")) / 1e9
        print(
            f"{size.variants} variants x {size.blocks} blocks x {size.in_block:,} requests x "
            f"{size.chunks} chunks, "
            f"{journals:.2f} GB of journals\n"
            f"{processor_name()}, one core, load average {os.getloadavg()[0]:.1f}\n"
        )
        print("| | wall | CPU | peak memory |\n|---|---|---|---|")
        costs, digests = [], []
        for number in (1, 2):
            cost = report(run)
            print(
                f"| dyno report, {number} | {cost.wall_s:.1f} s | {cost.cpu_s:.1f} s | "
                f"{cost.peak_gb:.2f} GB |",
                flush=True,
            )
            costs.append(cost)
            digests.append(
                [hashlib.sha256((run / name).read_bytes()).hexdigest() for name in _OUTPUTS]
            )
    same = digests[0] == digests[1]
    within = all(cost.wall_s <= MOST_S and cost.peak_gb <= MOST_GB for cost in costs)
    print(
        f"\nthe outputs are {'the same bytes' if same else 'NOT the same bytes'} both times; ",
        end="",
    )
    print(f"{'within' if within else 'OVER'} {MOST_S:g} s and {MOST_GB:g} GB")
    return 0 if same and within else 1


def report(run: Path) -> Cost:
    """Of one `dyno report`, imports and all, on one core. Raises RuntimeError where it fails."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(sys.executable, [sys.executable, "-m", "dyno.cli", "report", str(run)])
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"dyno report ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(
        time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9
    )


def _arguments() -> tuple[Size, Path | None]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=MILLION, help="of all variants together")
    parser.add_argument("--chunks", type=int, default=100, help="a request")
    parser.add_argument("--variants", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument(
        "--folder", type=Path, help="where the journals go; about 3 GB for the default size"
    )
    options = parser.parse_args()
    return Size(options.variants, options.blocks, options.requests, options.chunks), options.folder


if __name__ == "__main__":
    raise SystemExit(main())
