"""The speed of this machine: durations of earlier stages, and two measurements of its processor.

The user's cache keeps the `amount` of work and the `seconds` of each stage, one JSON line each.
The next run's estimates use them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from dyno.own_process import isolated
from foundation.files.atomic_write import write_whole
from foundation.machine import this_machine
from foundation.progress import Progress
from foundation.run.journal import UNREADABLE

Kind = Literal["finetune", "checkpoint", "server", "load"]
# A stage predicts others only of models at most this many times larger or smaller.
SAME_SIZE = 4.0
LATEST = 20
# The variation of a stage's duration from run to run on one machine.
AROUND = 1.25
# The best of several short measurements counts, since other processes seldom disturb all of them.
_PROBES, _PROBE_S = 8, 0.08
# Above this load average per core, a measurement is not kept for later runs.
_BUSY = 0.5
_ROWS, _WIDTH, _MATRICES = 512, 2048, 32


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A finished stage: `amount` in the unit of its kind, on a model of `model_bytes`.

    Units: finetune tokens, checkpoint weight bytes, server servers, load tokens (input and output).
    `saturated`: whether the load kept the server busy, so that `seconds` show its speed.
    """

    kind: Kind
    device: str
    model_bytes: int
    amount: float
    seconds: float
    saturated: bool = True


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of a processor with bfloat16 weights: operations and bytes read, per second."""

    flops: Annotated[float, msgspec.Meta(gt=0)]
    bytes_per_s: Annotated[float, msgspec.Meta(gt=0)]


@dataclass(frozen=True)
class Range:
    """Seconds, from `low` to `high`."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def at_least(self, seconds: float) -> Range:
        """The range with both ends raised to `seconds`."""
        return Range(max(self.low, seconds), max(self.high, seconds))

    @property
    def middle(self) -> float:
        """The seconds halfway between the ends."""
        return (self.low + self.high) / 2


NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True)
class Pace:
    """Earlier work on a device, "cpu" or "cuda", and its `speed`; None if it was not measured."""

    device: str
    works: Sequence[Work]
    speed: Speed | None

    def of(self, kind: Kind, amount: float, model_bytes: int) -> Range | None:
        """Seconds for an amount of work, from similar stages; None without any.

        The start of a server hardly depends on its size; other times are proportional to it.
        """
        alike = [w for w in self.works if self._is_like(w, kind, model_bytes)][-LATEST:]
        if not alike or not amount:
            return None
        rates = [
            w.seconds / w.amount * (1.0 if kind == "server" else model_bytes / w.model_bytes)
            for w in alike
        ]
        return Range(min(rates) * amount / AROUND, max(rates) * amount * AROUND)

    def _is_like(self, work: Work, kind: Kind, model_bytes: int) -> bool:
        near = model_bytes / SAME_SIZE <= work.model_bytes <= model_bytes * SAME_SIZE
        return work.kind == kind and work.device == self.device and near and work.saturated


def pace_of(device: str, *, is_here: bool, progress: Progress) -> Pace:
    """The pace of a device; nothing is known of one that is not here, but in another machine."""
    if not is_here:
        return Pace(device, [], None)
    speed = stored_speed() if device == "cpu" else None
    if speed is None and device == "cpu" and find_spec("torch"):
        speed = isolated(measure_speed, progress=progress, log=Path(os.devnull))
    return Pace(device, read_works(), speed)


def stored_pace(device: str) -> Pace:
    """The pace of a device as earlier runs left it; measures nothing."""
    return Pace(device, read_works(), stored_speed() if device == "cpu" else None)


def pace_file() -> Path:
    """The file of this machine's earlier stages."""
    return this_machine().file("pace", ".jsonl")


def speed_file() -> Path:
    """The file of this processor's measured speed."""
    return this_machine().file("speed", ".json")


def read_works() -> list[Work]:
    """Earlier stages of this machine, less lines that can't be read."""
    decoder = msgspec.json.Decoder(Work)
    works = []
    for line in pace_file().read_bytes().splitlines() if pace_file().is_file() else []:
        try:
            work = decoder.decode(line)
        except UNREADABLE:
            continue
        if work.amount > 0 and work.seconds > 0 and work.model_bytes > 0:
            works.append(work)
    return works


def record_work(work: Work) -> None:
    """Adds a stage to the file of this machine, if the cache can be written."""
    if not (work.amount > 0 and work.seconds > 0 and work.model_bytes > 0):
        return
    try:
        pace_file().parent.mkdir(parents=True, exist_ok=True)
        with pace_file().open("ab") as file:
            file.write(msgspec.json.encode(work) + b"\n")
    except OSError:
        return


def stored_speed() -> Speed | None:
    """This processor's speed from an earlier measurement, or None."""
    try:
        return msgspec.json.decode(speed_file().read_bytes(), type=Speed)
    except (OSError, *UNREADABLE):
        return None


def measure_speed(*, progress: Progress) -> Speed:
    """Measures a second of matrix products in bfloat16, the dtype of checkpoints, with torch.

    Arithmetic bounds a large product, as it bounds training and prefill. Reading the weights bounds
    a product with one row, as it bounds decoding. Runs in a process of its own, since it loads
    torch. The result on a busy machine is not kept, since it would count for every later run.
    """
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    import torch

    dtype = torch.bfloat16
    rows, row = torch.randn(_ROWS, _WIDTH).to(dtype), torch.randn(1, _WIDTH).to(dtype)
    weights = [torch.randn(_WIDTH, _WIDTH).to(dtype) for _ in range(_MATRICES)]

    def products_per_s(left: torch.Tensor) -> float:
        best = 0.0
        for _ in range(_PROBES):
            start, products = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - start) < _PROBE_S:
                left @ weights[products % _MATRICES]
                products += 1
            best = max(best, products / elapsed)
        return best

    speed = Speed(
        flops=products_per_s(rows) * 2 * _ROWS * _WIDTH**2,
        bytes_per_s=products_per_s(row) * weights[0].element_size() * _WIDTH**2,
    )
    if busy <= _BUSY:
        with suppress(OSError):
            speed_file().parent.mkdir(parents=True, exist_ok=True)
            write_whole(speed_file(), msgspec.json.encode(speed))
    return speed
