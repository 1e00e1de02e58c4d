"""Relative rates: what a variant holds at most, from short closed loops, and the rates that follow from it.

Concurrency doubles until a doubling adds less than `GAIN`; the highest throughput seen is what the
variant holds. It is a scale for the offered load, not a capacity: no verdict rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from dyno.experiment.schema import Experiment
from foundation.errors import BadInput, SystemFailed
from foundation.files.atomic_write import write_whole

FIRST_CONCURRENCY = 4
WAVES = 4
GAIN = 0.1
MOST_CONCURRENCY = 1024


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a variant held: `requests_per_s` with `concurrency` requests in flight."""

    requests_per_s: float
    concurrency: int


class StageRate(msgspec.Struct, frozen=True, kw_only=True):
    """A relative rate that was measured: `rate` requests/s is `share` of what `of` held."""

    of: str
    share: float
    held: Held
    rate: float

    @property
    def sentence(self) -> str:
        return (
            f"{self.rate:.3g} requests/s, {self.share:.0%} of the {self.held.requests_per_s:.3g} requests/s "
            f"that {self.of} held with {self.held.concurrency} in flight"
        )


StageRates = Mapping[str, StageRate]
"""By the stage's name."""


def throughput(done_ns: Sequence[float] | NDArray[np.float64], concurrency: int) -> float:
    """Requests/s of a closed loop of `WAVES` times `concurrency` requests, from the times of their ends.

    The first and the last wave are left out: there fewer than `concurrency` requests are in
    flight for part of the time. Raises ValueError where less than that succeeded.
    """
    if len(done_ns) < WAVES * concurrency:
        raise ValueError(f"{len(done_ns)} of {WAVES * concurrency} requests succeeded")
    ends = np.sort(done_ns)
    counted = (WAVES - 2) * concurrency
    between = ends[-concurrency - 1] - ends[concurrency - 1]
    if between <= 0:
        raise ValueError("all requests ended at once")
    return float(counted / between * 1e9)


def goes_on(held: Sequence[Held], most: int) -> int | None:
    """The concurrency to try next. None where a doubling added too little, or `most` is reached."""
    if not held:
        return min(FIRST_CONCURRENCY, most)
    following = held[-1].concurrency * 2
    if following > min(most, MOST_CONCURRENCY):
        return None
    if len(held) > 1 and held[-1].requests_per_s < (1 + GAIN) * held[-2].requests_per_s:
        return None
    return following


def highest(held: Sequence[Held]) -> Held:
    return max(held, key=lambda each: each.requests_per_s)


def measured_from(variants: Mapping[str, Held], experiment: Experiment) -> StageRates:
    """The rate of every stage with a relative one."""
    relative = {s.label: s.relative_rate for s in experiment.workload.stages if s.relative_rate}
    return {
        label: StageRate(
            of=rate.of,
            share=rate.share,
            held=variants[rate.of],
            rate=float(f"{rate.share * variants[rate.of].requests_per_s:.3g}"),
        )
        for label, rate in relative.items()
    }


def at_rates(experiment: Experiment, rates: StageRates) -> Experiment:
    """The same experiment with its relative rates replaced by those that were measured."""
    workload = experiment.workload
    stages = tuple(
        s.at_rate(rates[s.label].rate) if s.relative_rate else s for s in workload.stages
    )
    return experiment.model_copy(
        update={"workload": workload.model_copy(update={"stages": stages})}
    )


def unmeasured(experiment: Experiment) -> list[str]:
    """The variants that relative rates refer to, each once."""
    asked = [s.relative_rate.of for s in experiment.workload.stages if s.relative_rate]
    return list(dict.fromkeys(asked))


def read_rates(file: Path, experiment: Experiment) -> StageRates | None:
    """What an earlier try of the run measured; None where it did not, or for other stages."""
    if not file.is_file():
        return None
    try:
        rates = msgspec.json.decode(file.read_bytes(), type=dict[str, StageRate])
    except msgspec.MsgspecError as error:
        raise BadInput(f"{file}: {error}; delete it to measure the rates again") from None
    asked = {s.label: s.relative_rate for s in experiment.workload.stages if s.relative_rate}
    same = rates.keys() == asked.keys() and all(
        (rates[label].of, rates[label].share) == (rate.of, rate.share)
        for label, rate in asked.items()
    )
    if same and not all(0 < rate.rate < inf for rate in rates.values()):
        raise BadInput(
            f"{file}: a rate that is not above zero; delete it to measure the rates again"
        )
    return rates if same else None


def write_rates(rates: StageRates, file: Path) -> None:
    write_whole(file, msgspec.json.format(msgspec.json.encode(rates), indent=2) + b"\n")


def failed(variant: str, why: str) -> SystemFailed:
    return SystemFailed(f"workload: a rate relative to {variant} can't be measured: {why}")
