"""What the machine can do at most: a matrix product and a copy, in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dyno.own_process import isolated
from foundation.progress import Progress
from results.profile.roofline import MachineLimits

Arithmetic = Literal["int8", "float8", "bfloat16", "float16", "float32"]
_ATTEMPTS = 7
_CPU_WIDTH, _GPU_WIDTH = 2048, 8192
_CPU_BYTES, _GPU_BYTES = 1 << 28, 1 << 30
"""A copy of so many bytes is far larger than the processor's caches."""


@dataclass
class Limits:
    """The machine's limits, each measured once."""

    progress: Progress
    _measured: dict[tuple[str, str, frozenset[int]], MachineLimits] = field(default_factory=dict)

    def of(
        self,
        arithmetic: Arithmetic,
        device: Literal["cpu", "cuda"],
        cores: frozenset[int],
        log: Path,
    ) -> MachineLimits:
        """The best of several products and copies; a few seconds.

        On a processor the time counts that its cores worked, so that other processes which take
        turns on them do not lower the limits. `cores`: those that the server had; empty for all.
        `log` gets what torch prints. Raises SystemFailed where torch has no such product here.
        """
        key = arithmetic, device, cores
        if key not in self._measured:
            self._measured[key] = isolated(
                _measure, arithmetic, device, sorted(cores), progress=self.progress, log=log
            )
        return self._measured[key]


def _measure(
    arithmetic: Arithmetic, device: str, cores: list[int], *, progress: Progress
) -> MachineLimits:
    if device == "cpu" and cores:
        os.sched_setaffinity(0, cores)
    import torch

    on_gpu = device == "cuda"
    if cores and not on_gpu:
        torch.set_num_threads(len(cores))
    threads = max(1, int(torch.get_num_threads()))
    clock = _device_clock if on_gpu else lambda: time.process_time() / threads
    width = _GPU_WIDTH if on_gpu else _CPU_WIDTH
    product = _product(arithmetic, device, width)
    source = torch.ones(_GPU_BYTES if on_gpu else _CPU_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _best(lambda: target.copy_(source), clock)
    return MachineLimits(
        bytes_per_s=2 * source.numel() / copy_s,
        flops_per_s=2 * width**3 / _best(product, clock),
        arithmetic=arithmetic,
    )


def _product(arithmetic: Arithmetic, device: str, width: int) -> Callable[[], object]:
    """A product of two square matrices in a format, as an action."""
    import torch

    ones = torch.ones(width, width, device=device)
    if arithmetic == "int8":
        integers = ones.to(torch.int8)
        return lambda: torch._int_mm(integers, integers.t())
    if arithmetic == "float8":
        eighths, scale = ones.to(torch.float8_e4m3fn), torch.ones(1, device=device)
        return lambda: torch._scaled_mm(
            eighths, eighths.t(), scale, scale, out_dtype=torch.bfloat16
        )
    matrix = ones.to(getattr(torch, arithmetic))
    return lambda: matrix @ matrix


def _best(action: Callable[[], object], clock: Callable[[], float]) -> float:
    """The shortest time of an action, in seconds; the first one warms up."""
    times = []
    for _ in range(_ATTEMPTS):
        start = clock()
        action()
        times.append(clock() - start)
    return min(times[1:])


def _device_clock() -> float:
    """Seconds, when the accelerator has done what it was given."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()
