"""`python -m benchmarks.measuring_path.floor`: the kernel's cost of one write and one read in C."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# As long as an event of the emulator.
_BYTES = 230


def floor(rate: float, streams: int, seconds: float) -> str | None:
    """Both sides' CPU an event, in words; None where there is no C compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "floor"
        subprocess.run(
            [compiler, "-O2", "-o", str(program), str(Path(__file__).with_suffix(".c"))], check=True
        )
        load = [str(value) for value in (streams, rate, seconds, _BYTES)]
        done = subprocess.run([str(program), *load], check=True, capture_output=True, text=True)
    return "; ".join(done.stdout.splitlines())


if __name__ == "__main__":
    for events_a_second in (40_000, 75_000, 0):
        print(floor(events_a_second, 800, 5.0) or "no C compiler here")
