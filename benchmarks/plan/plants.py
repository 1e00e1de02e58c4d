"""Seeded engines of known truth, and the traffic that each of them serves, in virtual time.

Six kinds: smooth, cliff (a step of more than so many requests costs half as much again), KV-bound
(the KV cache fills before the slots), bimodal lengths, heavy-tailed lengths, and a slow drift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from foundation.arrays import Ints
from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.behaviour import Distribution
from loadgen.emulator.plant import Oddities, Plant, StepCost
from loadgen.emulator.virtual_load import VirtualLoad
from results.capacity.demand.demand import Demand

LONGEST = 4096
"""Tokens of a request, the answer included."""
_NOISE = 0.03
Lengths = Callable[[np.random.Generator, int], tuple[Ints, Ints]]
"""Draws the prompt and the answer tokens of so many requests."""


@dataclass(frozen=True)
class EmulatedPlant:
    """An engine, and the lengths of the requests that it is planned for."""

    kind: str
    number: int
    plant: Plant
    lengths: Lengths

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of its own for each purpose."""
        return np.random.default_rng([sorted(KINDS).index(self.kind), self.number, purpose])

    def load(self, rate: float, requests: int, rng: np.random.Generator) -> VirtualLoad:
        """Poisson arrivals at a rate."""
        arrival = np.cumsum(rng.exponential(1 / rate, requests))
        return VirtualLoad.of(arrival, *self.lengths(rng, requests))

    def demand(self, rng: np.random.Generator, requests: int = 2_000) -> Demand:
        """A sample of its requests, as a run would have measured them, at one a second."""
        arrival = np.cumsum(rng.exponential(1.0, requests))
        return Demand.of(arrival, *self.lengths(rng, requests))


def drawn_plant(kind: str, number: int) -> EmulatedPlant:
    """The plant of a kind with this number: every cost and limit is drawn from its seed."""
    rng = np.random.default_rng([sorted(KINDS).index(kind), number, 0])
    cost = StepCost(
        fixed=float(np.exp(rng.uniform(np.log(0.004), np.log(0.03)))),
        decode=float(np.exp(rng.uniform(np.log(30e-6), np.log(400e-6)))),
        prefill=float(np.exp(rng.uniform(np.log(10e-6), np.log(100e-6)))),
        kv=float(np.exp(rng.uniform(np.log(20e-9), np.log(200e-9)))),
    )
    slots = int(rng.choice([16, 32, 64]))
    plain = EmulatedPlant(
        kind,
        number,
        Plant(
            cost,
            BatchLimits(max_num_seqs=slots, max_num_batched_tokens=2048),
            Oddities(noise=_NOISE),
            front=Distribution("fixed", float(rng.uniform(0.0005, 0.004))),
            front_per_token=float(rng.uniform(0.0, 2e-6)),
            seed=number,
        ),
        _lognormal(float(rng.choice([64, 256, 512])), float(rng.choice([32, 96])), 0.4),
    )
    return KINDS[kind](plain, rng)


def _cliff(plain: EmulatedPlant, rng: np.random.Generator) -> EmulatedPlant:
    above = int(plain.plant.limits.max_num_seqs * rng.uniform(0.3, 0.7))
    odd = Oddities(noise=_NOISE, cliff=above, cliff_share=0.5)
    return replace(plain, plant=replace(plain.plant, oddities=odd))


def _kv_bound(plain: EmulatedPlant, rng: np.random.Generator) -> EmulatedPlant:
    limits = plain.plant.limits
    inputs, outputs = plain.lengths(np.random.default_rng(0), 1_000)
    mean = float((inputs + outputs).mean())
    room = max(mean * limits.max_num_seqs * rng.uniform(0.25, 0.5), LONGEST)
    return replace(
        plain,
        plant=replace(plain.plant, limits=replace(limits, kv_blocks=round(room / 16))),
    )


def _bimodal(plain: EmulatedPlant, rng: np.random.Generator) -> EmulatedPlant:
    few = float(rng.uniform(0.1, 0.3))

    def lengths(draws: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        long = draws.random(n) < few
        inputs, outputs = np.where(long, 1024, 64), np.where(long, 256, 16)
        return _spread(inputs, draws), _spread(outputs, draws)

    return replace(plain, lengths=lengths)


def _heavy_tail(plain: EmulatedPlant, rng: np.random.Generator) -> EmulatedPlant:
    return replace(plain, lengths=_lognormal(200.0, 48.0, float(rng.uniform(0.8, 1.1))))


def _drift(plain: EmulatedPlant, rng: np.random.Generator) -> EmulatedPlant:
    odd = Oddities(noise=_NOISE, drift=0.02, drift_period=float(rng.uniform(60, 300)))
    return replace(plain, plant=replace(plain.plant, oddities=odd))


def _lognormal(prompt: float, answer: float, sigma: float) -> Lengths:
    """Lengths with these medians."""

    def lengths(rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        inputs = np.clip(rng.lognormal(np.log(prompt), sigma, n), 4, LONGEST * 3 // 4)
        outputs = np.clip(rng.lognormal(np.log(answer), sigma, n), 1, LONGEST // 4)
        return inputs.astype(np.int64), outputs.astype(np.int64)

    return lengths


def _spread(mean: Ints, rng: np.random.Generator) -> Ints:
    """Lengths within a fifth of their mean."""
    return np.asarray((mean * rng.uniform(0.8, 1.2, len(mean))).astype(np.int64))


KINDS: dict[str, Callable[[EmulatedPlant, np.random.Generator], EmulatedPlant]] = {
    "smooth": lambda plain, rng: plain,
    "cliff": _cliff,
    "KV-bound": _kv_bound,
    "bimodal": _bimodal,
    "heavy tail": _heavy_tail,
    "drift": _drift,
}
