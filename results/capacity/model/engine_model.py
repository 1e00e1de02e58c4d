"""The model of one replica: what an engine step takes, and the limits that its scheduler keeps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from foundation.arrays import Floats
from results.measures.doubt import some

REACH = 1.5
"""A model answers up to this many times the largest load it was fitted on, and no further."""
COEFFICIENTS = ("fixed", "per_decode", "per_prefill_token", "per_kv_token", "per_pair")


@dataclass(frozen=True)
class StepJump:
    """A step of more than `above` requests takes `factor` times its time."""

    above: int
    factor: float

    def factors(self, requests: Floats) -> Floats:
        """On the time of steps with so many requests (n,)."""
        return np.where(requests > self.above, self.factor, 1.0)

    @property
    def note(self) -> str:
        """The jump in words."""
        return (
            f"steps of more than {self.above} requests take {self.factor:.3g} times as long as the "
            "others say"
        )


@dataclass(frozen=True)
class StepTime:
    """Seconds of an engine step: a sum over the work in it.

    T = fixed + per_decode x D + per_prefill_token x P + per_kv_token x K + per_pair x A.
    D: requests that decode a token. P: prompt tokens that are computed. K: tokens in the KV cache
    of the requests that decode, before the step. A: over the pieces of prompts in the step, p
    tokens after c tokens, the sum of p x (c + p / 2). `jump`: where T jumps, None for nowhere.
    `free_tokens`: where a step must read all weights anyway, so many tokens are computed meanwhile
    (the ridge of the roofline model, Williams et al., CACM 52 (2009)). Then only X of the step's
    n = P + D tokens take time, n - `free_tokens` or 0; X stands for P, and D x X / n for D. None:
    all tokens take time, and those of requests that decode are in `per_decode`.
    """

    fixed: float
    per_decode: float
    per_prefill_token: float
    per_kv_token: float = 0.0
    per_pair: float = 0.0
    jump: StepJump | None = None
    free_tokens: int | None = None

    @property
    def notes(self) -> list[str]:
        """What is not a plain sum in words."""
        notes = [self.jump.note] if self.jump else []
        if self.free_tokens is not None:
            notes.append(
                f"a step computes its first {some(self.free_tokens, 'token')} while it reads the "
                "weights, so they take no time of their own"
            )
        return notes

    @property
    def per_decoded_token(self) -> float:
        """What a token of a request that decodes takes, where none is free."""
        token = 0.0 if self.free_tokens is None else self.per_prefill_token
        return self.per_decode + token

    @property
    def coefficients(self) -> Floats:
        """The coefficients (5,) in the order of `COEFFICIENTS`."""
        return np.array([getattr(self, name) for name in COEFFICIENTS])

    def with_coefficients(self, coefficients: Floats) -> StepTime:
        """The step time with these (5,) instead, and the same jump and free tokens."""
        fixed, decode, prefill, kv, pair = coefficients.tolist()
        return StepTime(fixed, decode, prefill, kv, pair, self.jump, self.free_tokens)

    def columns(self, work: Floats) -> Floats:
        """What the coefficients stand before, (n, 5), of steps with the `work` 1, D, P, K, A."""
        return columns(work, self.free_tokens)

    def seconds(self, work: Floats) -> Floats:
        """What steps (n,) with the `work` (n, 5) 1, D, P, K, A take, but for a jump."""
        return np.asarray(self.columns(work) @ self.coefficients)


def columns(work: Floats, free_tokens: int | None) -> Floats:
    """The `work` (n, 5) of steps: 1, D, P, K, A, or what stands for D and P with free tokens."""
    if free_tokens is None:
        return work
    tokens = work[:, 1] + work[:, 2]
    taken = np.maximum(tokens - free_tokens, 0.0)
    decodes = work[:, 1] * taken / np.maximum(tokens, 1.0)
    return np.column_stack([work[:, 0], decodes, taken, work[:, 3:]])


@dataclass(frozen=True)
class FrontEnd:
    """Seconds that the server adds around the engine.

    A request comes to the engine's queue `per_request` + `per_input_token` x its input tokens after
    it was sent. The client has a token `per_output_token` after the step that made it has ended.
    """

    per_request: float = 0.0
    per_input_token: float = 0.0
    per_output_token: float = 0.0


@dataclass(frozen=True)
class Scheduler:
    """The limits of continuous batching; None where a limit is not known or there is none.

    `max_num_seqs`: requests in a step. `max_num_batched_tokens`: tokens in a step.
    `kv_blocks` of `block_size` tokens: the KV cache. `chunked_prefill`: a prompt may be computed in
    pieces. `prefix_caching`: full blocks of a known prefix are not computed again. `max_loras`:
    adapters in a step. The names are vLLM's.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_blocks: int | None = None
    block_size: int = 16
    chunked_prefill: bool = True
    prefix_caching: bool = False
    max_loras: int | None = None


@dataclass(frozen=True)
class LoadRange:
    """The largest load of its kind: in a model's data, or in a simulation.

    `decodes`: requests that decode in a step. `prefill_tokens`: prompt tokens in a step. `context`:
    tokens of one request. `kv_tokens`: tokens in the KV cache of all of them. `rate`: requests/s.
    """

    decodes: float
    prefill_tokens: float
    context: float
    kv_tokens: float
    rate: float

    def beyond(self, other: LoadRange, reach: float = REACH) -> str | None:
        """Why this load is more than `reach` times `other`; None if it is not."""
        for name, unit in _UNITS.items():
            here, there = getattr(self, name), getattr(other, name)
            if here > reach * there:
                return f"{here:,.4g} {unit}, and the model was fitted on up to {there:,.4g}"
        return None


_UNITS = {
    "decodes": "requests in a step",
    "prefill_tokens": "prompt tokens in a step",
    "context": "tokens in a request",
    "kv_tokens": "tokens in the KV cache",
    "rate": "requests/s",
}


@dataclass(frozen=True)
class EngineModel:
    """One variant on one replica.

    `steps` and `front` are the best fit. `draws` (m, 5): step times as likely as the data allow, in
    the order of `COEFFICIENTS`; every figure's interval comes from them. `fitted`: the largest load
    in the data. `residual`: the standard deviation of measured over modelled step time, less 1.
    `source`: where the steps come from. `notes`: what the data could not show.
    """

    steps: StepTime
    front: FrontEnd
    scheduler: Scheduler
    fitted: LoadRange
    source: Literal["engine record", "kernel stamps"]
    draws: Floats = field(default_factory=lambda: np.empty((0, len(COEFFICIENTS))))
    residual: float = 0.0
    notes: tuple[str, ...] = ()

    def drawn(self, place: int) -> EngineModel:
        """The model with the step times of a draw, none below zero."""
        coefficients = np.maximum(self.draws[place], 0.0)
        return replace(self, steps=self.steps.with_coefficients(coefficients))
