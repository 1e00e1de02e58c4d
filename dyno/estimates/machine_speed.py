"""How fast this machine works: what earlier stages took here, and two short measurements of its processor.

Stages are kept in the user's cache as `amount` of work and `seconds`, one JSON line each, so that
the next run's estimates rest on what this machine did.
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
# Stages of a model this many times larger or smaller say nothing of one another.
SAME_SIZE = 4.0
LATEST = 20
# Of what was seen on this machine: stages of one kind vary so much from run to run.
AROUND = 1.25
# The best of several short looks: other processes take from one, seldom from all.
_PROBES, _PROBE_S = 8, 0.08
# A machine with more than this share of its cores at other work (the load average) is not measured for later runs.
_BUSY = 0.5
_ROWS, _WIDTH, _MATRICES = 512, 2048, 32


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that was done: `amount` in the unit of its kind, on a model of `model_bytes`.

    Units: finetune tokens, checkpoint weight bytes, server servers, load tokens (input and output).
    `saturated`: the load took all that the server could do, so `seconds` tell its speed; else
    they are more than the work took.
    """

    kind: Kind
    device: str
    model_bytes: int
    amount: float
    seconds: float
    saturated: bool = True


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What the processor does with weights as they are served: multiply-adds of large products, and bytes read."""

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
        return Range(max(self.low, seconds), max(self.high, seconds))


NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True)
class Pace:
    """What is known of this machine. `device` is "cpu" or "cuda"; without `speed` it was not measured."""

    device: str
    works: Sequence[Work]
    speed: Speed | None

    def of(self, kind: Kind, amount: float, model_bytes: int) -> Range | None:
        """Seconds for an amount of work, from stages like it; None where there were none.

        The time of a server's start hardly depends on its size, all others are proportional.
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


def pace_of(device: str, *, at_hand: bool, progress: Progress) -> Pace:
    """What is known of this machine. An accelerator that is not `at_hand` is another machine's."""
    if not at_hand:
        return Pace(device, [], None)
    speed = stored_speed() if device == "cpu" else None
    if speed is None and device == "cpu" and find_spec("torch"):
        speed = isolated(measure_speed, progress=progress, log=Path(os.devnull))
    return Pace(device, read_works(), speed)


def pace_file() -> Path:
    """Where this machine's stages are kept."""
    return this_machine().file("pace", ".jsonl")


def speed_file() -> Path:
    return this_machine().file("speed", ".json")


def read_works() -> list[Work]:
    """Earlier stages of this machine; a line that can't be read is left out."""
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


def keep(work: Work) -> None:
    """Add a stage to what is known of this machine. A cache that can't be written is no reason to fail."""
    if not (work.amount > 0 and work.seconds > 0 and work.model_bytes > 0):
        return
    try:
        pace_file().parent.mkdir(parents=True, exist_ok=True)
        with pace_file().open("ab") as file:
            file.write(msgspec.json.encode(work) + b"\n")
    except OSError:
        return


def stored_speed() -> Speed | None:
    """This processor's speed where it was measured before."""
    try:
        return msgspec.json.decode(speed_file().read_bytes(), type=Speed)
    except (OSError, *UNREADABLE):
        return None


def measure_speed(*, progress: Progress) -> Speed:
    """A second of matrix products in the dtype that checkpoints have (bfloat16), by torch's own kernels.

    A large product is bound by arithmetic, as training and prefill are; a product with one row by
    reading the weights, as decoding is. Runs in a process of its own, since it loads torch. What a
    busy machine shows is not kept: it would count for every later run.
    """
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    import torch

    dtype = torch.bfloat16
    rows, row = torch.randn(_ROWS, _WIDTH).to(dtype), torch.randn(1, _WIDTH).to(dtype)
    weights = [torch.randn(_WIDTH, _WIDTH).to(dtype) for _ in range(_MATRICES)]

    def per_second(one: torch.Tensor) -> float:
        best = 0.0
        for _ in range(_PROBES):
            began, products = time.perf_counter(), 0
            while (spent := time.perf_counter() - began) < _PROBE_S:
                one @ weights[products % _MATRICES]
                products += 1
            best = max(best, products / spent)
        return best

    speed = Speed(
        flops=per_second(rows) * 2 * _ROWS * _WIDTH**2,
        bytes_per_s=per_second(row) * weights[0].element_size() * _WIDTH**2,
    )
    if busy <= _BUSY:
        with suppress(OSError):
            speed_file().parent.mkdir(parents=True, exist_ok=True)
            write_whole(speed_file(), msgspec.json.encode(speed))
    return speed
