"""What every load generator under test is asked for, and what the rig asks of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Load:
    """`streams` answers at once with `tokens` events each. Prompts differ: each has its truth."""

    streams: int
    tokens: int

    def prompt(self, number: int) -> str:
        """The prompt of one stream."""
        return f"stream {number}"

    def write_prompts(self, file: Path, field: str) -> Path:
        """JSON lines, each an object with its prompt in `field`."""
        lines = (json.dumps({field: self.prompt(number)}) for number in range(self.streams))
        file.write_text("\n".join(lines) + "\n")
        return file


class Tool(Protocol):
    """A load generator in its own processes. It requests text completions, all at once.

    `note`: what its record leaves out, for the foot of the table.
    `own_origin`: the origin of its times is unknown.
    """

    name: str
    note: str = ""
    own_origin: bool = False

    def command(self, url: str, load: Load, out: Path) -> list[str]:
        """The command that sends the load and writes its record to `out`."""

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        """Arrivals of each event by prompt, ns on CLOCK_MONOTONIC, NaN without a record of it.

        Prompts that failed are left out.
        """

    def cpu_s(self, out: Path) -> float | None:
        """The CPU time of the load by the tool's own account; None if the rig has to watch it."""
        return None
