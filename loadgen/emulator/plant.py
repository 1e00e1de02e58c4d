"""An engine of known truth: what its steps take, and how it strays from that."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields

from foundation.units import parse_count, parse_number, parse_seconds
from loadgen.emulator.batch_limits import VLLM_DEFAULTS, BatchLimits
from loadgen.emulator.behaviour import NO_TIME, Distribution
from loadgen.emulator.planned_step import PlannedStep


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step: fixed + decode x D + prefill x P + kv x K + pair x A.

    D: requests that decode. P: prompt tokens computed. K: tokens in the KV cache of those that
    decode, before the step. A: over the pieces of prompts, p tokens after c, the sum of
    p x (c + p / 2).
    """

    fixed: float
    decode: float = 0.0
    prefill: float = 0.0
    kv: float = 0.0
    pair: float = 0.0

    @classmethod
    def parse(cls, text: str) -> StepCost:
        """Parses "fixed=8ms,decode=50us,prefill=20us,kv=2ns,pair=0ns". Raises ValueError."""
        form = "fixed=8ms,decode=50us,prefill=20us,kv=2ns,pair=0ns"
        names = {each.name for each in fields(cls)}
        costs = {}
        for part in text.split(","):
            name, _, time = part.partition("=")
            if name not in names or name in costs:
                raise ValueError(f"write {form}, not {text!r}")
            costs[name] = parse_seconds(time)
        if not costs.get("fixed"):
            raise ValueError(f"write {form}, fixed above 0, not {text!r}")
        return cls(**costs)

    def seconds(self, step: PlannedStep) -> float:
        """What a step takes."""
        decodes, kv_tokens, pieces, _ = step
        time = self.fixed + self.decode * decodes + self.kv * kv_tokens
        if pieces:
            time += self.prefill * step.prefill_tokens + self.pair * step.pairs
        return time


@dataclass(frozen=True)
class Oddities:
    """Factors on every step's time.

    `noise`: sigma of a lognormal factor with mean 1, drawn for each step. `drift`: the factor moves
    between 1 - drift and 1 + drift as a sine of `drift_period` seconds, from 1 at the first step. A
    step of more than `cliff` requests takes 1 + `cliff_share` times its time.
    """

    noise: float = 0.0
    drift: float = 0.0
    drift_period: float = 600.0
    cliff: int | None = None
    cliff_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.drift < 1 or not self.drift_period > 0:
            raise ValueError(
                "drift: write a share from 0 to below 1 and a period above 0, "
                f"not {self.drift}:{self.drift_period}s"
            )

    @staticmethod
    def parse_drift(text: str) -> tuple[float, float]:
        """Parses "0.1:600s" into the drift and its period. Raises ValueError."""
        share, _, period = text.partition(":")
        return parse_number(share), parse_seconds(period)

    @staticmethod
    def parse_cliff(text: str) -> tuple[int, float]:
        """Parses "32:0.5" into the cliff and its share. Raises ValueError."""
        requests, _, share = text.partition(":")
        return parse_count(requests), parse_number(share)


NO_ODDITIES = Oddities()


@dataclass(frozen=True)
class Plant:
    """All that decides when an emulated engine makes its tokens.

    A request comes to the queue `front` + `front_per_token` x its prompt tokens after it arrived.
    Its tokens leave the server `after` the step that made them, while the next step goes on.
    """

    cost: StepCost
    limits: BatchLimits = VLLM_DEFAULTS
    oddities: Oddities = NO_ODDITIES
    front: Distribution = NO_TIME
    front_per_token: float = 0.0
    after: float = 0.0
    seed: int = 0


class StepDurations:
    """The time of each step of a plant, in order."""

    def __init__(self, plant: Plant) -> None:
        self._cost, self._oddities = plant.cost, plant.oddities
        self._gauss = random.Random(f"{plant.seed}/steps").gauss
        self._first_ns: int | None = None

    def next_ns(self, step: PlannedStep, began_ns: int) -> int:
        """How long the next step takes, at least 1 ns."""
        odd, seconds = self._oddities, self._cost.seconds(step)
        if odd.cliff is not None and step.decodes + len(step.pieces) > odd.cliff:
            seconds *= 1 + odd.cliff_share
        if odd.noise:
            seconds *= math.exp(odd.noise * self._gauss(0.0, 1.0) - odd.noise**2 / 2)
        if odd.drift:
            if self._first_ns is None:
                self._first_ns = began_ns
            turns = (began_ns - self._first_ns) / 1e9 / odd.drift_period
            seconds *= 1 + odd.drift * math.sin(2 * math.pi * turns)
        return max(1, round(seconds * 1e9))
