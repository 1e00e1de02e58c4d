"""Divides this machine's cores between a load generator and the servers that it loads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SHARED_CORES = 2
"""With so few cores nobody gets one alone: the servers would be left with one."""


@dataclass(frozen=True)
class CoreDivision:
    """Logical processors, by number, of the load generator and of all servers together."""

    load: frozenset[int]
    servers: frozenset[int]


def divide_cores(
    cores: Sequence[frozenset[int]], load_processes: int, quota: float | None = None
) -> CoreDivision | None:
    """Gives each process of the load generator a core, at most half of them; servers get the rest.

    `cores`: the logical processors of each physical core. `quota`: the cores' worth of time that a
    container may use. None: too few cores, so all share them. The load generator gets the last
    cores, since vLLM computes on the first memory node.
    """
    if min(len(cores), quota or len(cores)) <= _SHARED_CORES:
        return None
    servers = len(cores) - min(max(1, load_processes), len(cores) // 2)
    return CoreDivision(
        load=frozenset().union(*cores[servers:]), servers=frozenset().union(*cores[:servers])
    )


def usable_cores(topology: Path = _TOPOLOGY) -> list[frozenset[int]]:
    """The logical processors of each physical core that this process may use, in order."""
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(topology, processor) & allowed for processor in allowed}
    return sorted(cores, key=min)


def _siblings(topology: Path, processor: int) -> frozenset[int]:
    """The logical processors of a processor's physical core; itself alone if that is not known."""
    file = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
    try:
        return frozenset(parse_processors(file.read_text(encoding="ascii"))) | {processor}
    except (OSError, ValueError):
        return frozenset({processor})


def parse_processors(text: str) -> list[int]:
    """The numbers in the kernel's form: "0-2,8" is 0, 1, 2 and 8. Raises ValueError."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def processor_words(numbers: Iterable[int]) -> str:
    """Processors in the kernel's form, the other way round: 0, 1, 2 and 8 are "0-2,8"."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)


def quota_cores(file: Path = _QUOTA) -> float | None:
    """The cores' worth of time that the container may use (cgroup v2); None without a limit."""
    try:
        time_us, period_us = file.read_text(encoding="ascii").split()
        return int(time_us) / int(period_us)
    except (OSError, ValueError, ZeroDivisionError):  # another version, or the limit is "max"
        return None


@contextmanager
def on_processors(processors: frozenset[int] | None) -> Iterator[None]:
    """Keeps this thread, and what it starts, on these processors; None changes nothing."""
    if processors is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
