"""Relative rates: shares of the highest throughput that a variant reaches in short closed loops.

Concurrency doubles until a doubling adds less than `GAIN`. The highest throughput is a scale for
the offered load, not a capacity: no verdict depends on it.
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


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """The throughput of a closed loop: `requests_per_s` with `concurrency` requests in flight."""

    requests_per_s: float
    concurrency: int


class StageRate(msgspec.Struct, frozen=True, kw_only=True):
    """A measured relative rate: `rate` requests/s is `share` of what the variant `of` held."""

    of: str
    share: float
    held: Throughput
    rate: float

    @property
    def sentence(self) -> str:
        """The rate and its origin, for a log or a report."""
        return (
            f"{self.rate:.3g} requests/s, {self.share:.0%} of the "
            f"{self.held.requests_per_s:.3g} requests/s "
            f"that {self.of} held with {self.held.concurrency} in flight"
        )


StageRates = Mapping[str, StageRate]
"""Measured rates by the names of their stages."""


def throughput(done_ns: Sequence[float] | NDArray[np.float64], concurrency: int) -> float:
    """Requests/s of a closed loop of `WAVES` times `concurrency` requests.

    `done_ns`: the ends of the requests that succeeded. The first and the last wave do not count,
    since fewer than `concurrency` requests are in flight for part of them. Raises ValueError if a
    request failed, or if all ended at once.
    """
    if len(done_ns) < WAVES * concurrency:
        raise ValueError(f"{len(done_ns)} of {WAVES * concurrency} requests succeeded")
    ends = np.sort(done_ns)
    requests = (WAVES - 2) * concurrency
    window_ns = ends[-concurrency - 1] - ends[concurrency - 1]
    if window_ns <= 0:
        raise ValueError("all requests ended at once")
    return float(requests / window_ns * 1e9)


def next_concurrency(loops: Sequence[Throughput], limit: int) -> int | None:
    """The concurrency of the next loop; None at `limit`, or after a doubling without gain."""
    if not loops:
        return min(FIRST_CONCURRENCY, limit)
    doubled = loops[-1].concurrency * 2
    if doubled > min(limit, MOST_CONCURRENCY):
        return None
    if len(loops) > 1 and loops[-1].requests_per_s < (1 + GAIN) * loops[-2].requests_per_s:
        return None
    return doubled


def highest(loops: Sequence[Throughput]) -> Throughput:
    """The loop with the highest throughput."""
    return max(loops, key=lambda loop: loop.requests_per_s)


def stage_rates(variants: Mapping[str, Throughput], experiment: Experiment) -> StageRates:
    """The rate of every stage with a relative rate, from the throughput of variants."""
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
    """The same experiment with measured rates in place of its relative ones."""
    workload = experiment.workload
    stages = tuple(
        s.at_rate(rates[s.label].rate) if s.relative_rate else s for s in workload.stages
    )
    return experiment.model_copy(
        update={"workload": workload.model_copy(update={"stages": stages})}
    )


def reference_variants(experiment: Experiment) -> list[str]:
    """The variants that relative rates refer to, each once."""
    names = [s.relative_rate.of for s in experiment.workload.stages if s.relative_rate]
    return list(dict.fromkeys(names))


def read_rates(file: Path, experiment: Experiment) -> StageRates | None:
    """The rates of an earlier try of the run; None without any, or for other stages.

    Raises BadInput for a damaged file.
    """
    if not file.is_file():
        return None
    try:
        rates = msgspec.json.decode(file.read_bytes(), type=dict[str, StageRate])
    except msgspec.MsgspecError as error:
        raise BadInput(f"{file}: {error}; delete it to measure the rates again") from None
    relative = {s.label: s.relative_rate for s in experiment.workload.stages if s.relative_rate}
    same_stages = rates.keys() == relative.keys() and all(
        (rates[label].of, rates[label].share) == (rate.of, rate.share)
        for label, rate in relative.items()
    )
    if same_stages and not all(0 < rate.rate < inf for rate in rates.values()):
        raise BadInput(
            f"{file}: a rate that is not above zero; delete it to measure the rates again"
        )
    return rates if same_stages else None


def write_rates(rates: StageRates, file: Path) -> None:
    """Writes measured rates as JSON."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(rates), indent=2) + b"\n")


def not_measurable(variant: str, reason: str) -> SystemFailed:
    """The error of a variant whose throughput can't be measured."""
    return SystemFailed(f"workload: a rate relative to {variant} can't be measured: {reason}")
