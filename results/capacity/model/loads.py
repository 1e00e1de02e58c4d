"""The loads that measure an engine's step times, and the steps that such a load consists of."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, inf

import numpy as np

from foundation.arrays import Floats
from results.capacity.model.engine_model import Scheduler, StepTime

BUDGET_S = 180.0
"""What the loads of a variant take together, in s."""
SPREAD = 0.5
"""Answers are this share of their mean shorter or longer, so that prompts come one by one."""
SHORTEST_S = 3.0
"""The least that a load takes, in s; a shorter one shows little beside its first wave."""
FEWEST_WAVES = 2
UNLIMITED_IN_FLIGHT = 64
"""The most requests in flight where the server does not say how many it decodes at once."""
_ANSWERS = (16, 64, 256)
_PROMPT_STEP = 4
_LABEL = re.compile(r"model-([1-9]\d*)x([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True)
class ModelLoad:
    """A closed loop of `in_flight` requests, `waves` times as many in all.

    A prompt has `input_tokens`. Answers are drawn evenly around `output_tokens`, `SPREAD` of it
    shorter or longer.
    """

    in_flight: int
    input_tokens: int
    output_tokens: int
    waves: int = FEWEST_WAVES

    @property
    def label(self) -> str:
        """Its name in a journal, from which `labelled` reads it again."""
        return f"model-{self.in_flight}x{self.input_tokens}x{self.output_tokens}"

    @property
    def requests(self) -> int:
        """The number of requests."""
        return self.in_flight * self.waves

    @property
    def shortest_answer(self) -> int:
        """Tokens of the shortest answer."""
        return max(1, round(self.output_tokens * (1 - SPREAD)))

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest answer."""
        return max(1, round(self.output_tokens * (1 + SPREAD)))

    @property
    def context(self) -> int:
        """Tokens of the longest request, its answer included."""
        return self.input_tokens + self.longest_answer


def labelled(label: str, requests: int) -> ModelLoad:
    """The load of this name, with so many requests. Raises ValueError for any other name."""
    if (sizes := _LABEL.fullmatch(label)) is None:
        raise ValueError(f"{label!r} names no load of a model")
    in_flight, prompt, answer = map(int, sizes.groups())
    return ModelLoad(in_flight, prompt, answer, requests // in_flight)


@dataclass(frozen=True)
class StepKinds:
    """k kinds of engine steps. `work` (k, 5): 1, D, P, K, A of `StepTime`. `count` (k,)."""

    work: Floats
    count: Floats

    def seconds(self, times: StepTime) -> float:
        """The time of all steps, s."""
        return float(self.count @ times.seconds(self.work))


def steps_of(load: ModelLoad, scheduler: Scheduler) -> StepKinds:
    """The steps of a load, as continuous batching makes them on average.

    The first prompts come together. After them, answers end one by one, and the next prompt takes
    the place. Once all of its prompts were sent, a load is over.
    """
    b, p, o = load.in_flight, load.input_tokens, load.output_tokens
    limit = float(scheduler.max_num_batched_tokens or inf)
    first = max(1, ceil(b * p / limit))
    room = max(1.0, limit - b)
    pieces = b * max(1, ceil(p / room))
    with_prompts = max(min(o, pieces), ceil(b * p / room))
    decodes = max(0.0, b - pieces / with_prompts)
    context = p + o / 2
    pairs = b * p * p / 2
    work = [
        [1, 0, b * p / first, 0, pairs / first],
        [1, decodes, b * p / with_prompts, decodes * context, pairs / with_prompts],
        [1, b, 0, b * context, 0],
    ]
    # The prompts of the first wave are the first steps; those of each later one fall into the wave
    # before it, and the last wave has nothing after it.
    later = load.waves - 1
    without = load.waves * o - later * min(o, with_prompts)
    return StepKinds(np.array(work, float), np.array([first, later * with_prompts, without], float))


def sized(load: ModelLoad, scheduler: Scheduler, times: StepTime) -> ModelLoad:
    """The load with so many waves that it takes `SHORTEST_S`, at least `FEWEST_WAVES`."""
    fewest = replace(load, waves=FEWEST_WAVES)
    one_more = replace(load, waves=FEWEST_WAVES + 1)
    least = steps_of(fewest, scheduler).seconds(times)
    wave = steps_of(one_more, scheduler).seconds(times) - least
    return replace(load, waves=FEWEST_WAVES + max(0, ceil((SHORTEST_S - least) / wave)))


def candidate_loads(scheduler: Scheduler, context: int, shortest_prompt: int) -> list[ModelLoad]:
    """The loads to choose from: requests in flight, prompts and answers on geometric grids.

    `context`: the most tokens of a request. Requests in flight go up to the server's limit, and
    never need more than its KV cache, since preemption would hide what a step takes.
    """
    most = scheduler.max_num_seqs or UNLIMITED_IN_FLIGHT
    in_flight = _up_to(most, 1, 2)
    loads = []
    for answer in _ANSWERS:
        longest = context - ceil(answer * (1 + SPREAD))
        if longest < shortest_prompt:
            continue
        prompts = _up_to(longest, shortest_prompt, _PROMPT_STEP)
        loads += [ModelLoad(b, p, answer) for b, p in product(in_flight, prompts)]
    return [load for load in loads if _fits(load, scheduler)]


def _up_to(most: int, least: int, step: int) -> list[int]:
    """`least`, and `step` times the one before, up to `most`, which is one of them."""
    sizes = []
    while least < most:
        sizes.append(least)
        least *= step
    return [*sizes, most]


def _fits(load: ModelLoad, scheduler: Scheduler) -> bool:
    if scheduler.kv_blocks is None:
        return True
    blocks = ceil(load.context / scheduler.block_size)
    return load.in_flight * blocks <= scheduler.kv_blocks
