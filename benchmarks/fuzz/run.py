"""`python -m benchmarks.fuzz.run`: ten million inputs over all targets, or `--inputs N` of them; a table at the end.

Each target is a process of its own, one after another. A target that finds a fault stops, leaves the input that shows it in the
corpus folder, and makes the exit code 1.
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
    "chunked": 17, "head": 17, "compressed": 10, "journal": 10, "prompts": 9,
    "trace": 2, "trace_of_fragments": 2, "examples": 2, "examples_of_fragments": 2,
    "conversations": 1, "conversations_of_fragments": 1,
}  # fmt: skip
_SECONDS_AN_INPUT = 10
_LONGEST = {"journal": 2000}


def main() -> None:
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
    for name, inputs, seconds, found in rows:
        print(f"| {name} | {inputs:,} | {inputs / seconds:,.0f} | {found or 'nothing'} |")
    print(f"\n{sum(inputs for _, inputs, _, _ in rows):,} inputs")
    sys.exit(any(found for *_, found in rows))


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
    found = "" if done.returncode == 0 else done.stdout[-2000:]
    print(
        f"{name}: {max(tried, default=0):,} inputs in {seconds:.0f} "
        f"s{': ' + found if found else ''}",
        flush=True,
    )
    return name, max(tried, default=0), seconds, found.strip().splitlines()[-1] if found else ""


if __name__ == "__main__":
    main()
