"""`python -m benchmarks.fuzz.run`: ten million inputs over all targets, or `--inputs N` of them.

Each target runs in its own process, one after another, and has a row in the table at the end.
A target that finds a fault stops and leaves its input in the corpus folder; the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

# Of a hundred inputs; a whole answer takes a hundred times as long as a head.
SHARES = {
    "sse": 16, "sse_of_fragments": 4, "reply": 5, "reply_of_fragments": 2,
    "chunked": 16, "head": 16, "compressed": 10, "journal": 10, "engine_record": 2, "prompts": 9,
    "trace": 2, "trace_of_fragments": 2, "examples": 2, "examples_of_fragments": 2,
    "conversations": 1, "conversations_of_fragments": 1,
}  # fmt: skip
_SECONDS_AN_INPUT = 10
_LONGEST = {"journal": 2000, "engine_record": 2000}


def main() -> None:
    """Runs each target and prints a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz.run", description="Fuzz every reader of foreign bytes."
    )
    parser.add_argument("--inputs", type=int, default=10_000_000, help="in all")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path("runs/fuzz"),
        help="inputs that are kept from one run to the next",
    )
    parser.add_argument(
        "--target", choices=SHARES, action="append", help="only this one; may be given again"
    )
    args = parser.parse_args()
    targets = {name: SHARES[name] for name in args.target or SHARES}
    rows = [
        fuzz(name, args.inputs * share // sum(targets.values()), args.corpus)
        for name, share in targets.items()
    ]
    print("\n| target | inputs | a second | found |\n|---|---|---|---|")
    for name, inputs, seconds, fault in rows:
        print(f"| {name} | {inputs:,} | {inputs / seconds:,.0f} | {fault or 'nothing'} |")
    print(f"\n{sum(inputs for _, inputs, _, _ in rows):,} inputs")
    sys.exit(any(fault for *_, fault in rows))


def fuzz(name: str, inputs: int, corpus: Path) -> tuple[str, int, float, str]:
    """Name, inputs that were tried, seconds, and the words of what was found."""
    folder = corpus / name
    command = [
        *(sys.executable, "-m", "benchmarks.fuzz.harness", name, str(folder)),
        *(
            f"-runs={inputs}",
            f"-max_len={_LONGEST.get(name, 300)}",
            f"-timeout={_SECONDS_AN_INPUT}",
            "-rss_limit_mb=2048",
        ),
        f"-artifact_prefix={corpus}/{name}-",
    ]
    began = time.monotonic()
    done = subprocess.run(
        command,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ,
    )
    seconds = time.monotonic() - began
    tried = [int(number) for number in re.findall(r"^(?:#|Done )(\d+)", done.stdout, re.MULTILINE)]
    fault = "" if done.returncode == 0 else done.stdout[-2000:]
    print(
        f"{name}: {max(tried, default=0):,} inputs in {seconds:.0f} s"
        f"{': ' + fault if fault else ''}",
        flush=True,
    )
    return name, max(tried, default=0), seconds, fault.strip().splitlines()[-1] if fault else ""


if __name__ == "__main__":
    main()
