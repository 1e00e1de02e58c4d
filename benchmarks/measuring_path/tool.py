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
    """`streams` answers at once, of `tokens` events each. Every prompt differs, so that each has its own truth."""

    streams: int
    tokens: int

    def prompt(self, number: int) -> str:
        return f"stream {number}"

    def write_prompts(self, file: Path, field: str) -> Path:
        """JSON lines, each an object with its prompt in `field`."""
        lines = (json.dumps({field: self.prompt(number)}) for number in range(self.streams))
        file.write_text("\n".join(lines) + "\n")
        return file


class Tool(Protocol):
    """A load generator in processes of its own. All of them are asked for text completions, one request a stream, all at once.

    `note` says what its record leaves out, for the foot of the table. `own_origin`: its times have an origin that it does not
    tell.
    """

    name: str
    note: str = ""
    own_origin: bool = False

    def command(self, url: str, load: Load, out: Path) -> list[str]: ...

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        """Prompt to the arrival of each of its events, ns on CLOCK_MONOTONIC, NaN where the tool does not record it.

        Prompts that failed are left out.
        """

    def cpu_s(self, out: Path) -> float | None:
        """The CPU time of the whole load by the tool's own account, None where the rig has to watch from outside."""
        return None
