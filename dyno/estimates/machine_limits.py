"""What the machine can do at most: a matrix product and a copy, in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
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


def measure_limits(
    arithmetic: Arithmetic,
    device: Literal["cpu", "cuda"],
    cores: Collection[int],
    log: Path,
    progress: Progress,
) -> MachineLimits:
    """The best of several products and copies; a few seconds.

    `cores`: the processor's cores that the server had; empty for all. `log`
    gets what torch prints. Raises SystemFailed where
    torch has no such product here.
    """
    return isolated(_measure, arithmetic, device, sorted(cores), progress=progress, log=log)


def _measure(
    arithmetic: Arithmetic, device: str, cores: list[int], *, progress: Progress
) -> MachineLimits:
    if device == "cpu" and cores:
        os.sched_setaffinity(0, cores)
    import torch

    on_gpu = device == "cuda"
    if cores and not on_gpu:
        torch.set_num_threads(len(cores))
    finish = torch.cuda.synchronize if on_gpu else _nothing
    width = _GPU_WIDTH if on_gpu else _CPU_WIDTH
    product = _product(arithmetic, device, width)
    source = torch.ones(_GPU_BYTES if on_gpu else _CPU_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _best(lambda: target.copy_(source), finish)
    return MachineLimits(
        bytes_per_s=2 * source.numel() / copy_s,
        flops_per_s=2 * width**3 / _best(product, finish),
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


def _best(action: Callable[[], object], finish: Callable[[], object]) -> float:
    """The shortest time of an action, in seconds; the first one warms up."""
    times = []
    for _ in range(_ATTEMPTS):
        start = time.perf_counter()
        action()
        finish()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _nothing() -> None:
    """A processor's product is done when its call returns."""
