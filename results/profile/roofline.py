"""The roofline: bytes and arithmetic that engine steps need, against the machine's limits.

A step reads every weight that its tokens meet, reads the KV cache of its sequences and writes that
of its new tokens. Its arithmetic is two FLOPs a weight and token, and attention's two products.
Activations are left out: they stay in caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.profile.breakdown import busy_ms
from results.profile.record import Roofline, VariantProfile
from results.profile.timeline import Step, Tokens

_MOST = 1.05
"""A share above this says that the limits were measured too low."""


@dataclass(frozen=True)
class ModelShape:
    """What a dense model's step costs.

    `weight_bytes`: read by each step. `linear_weights`: weights that each token meets.
    `head_weights`: weights of the output layer, met by one token a request.
    `kv_bytes`: of one token in all layers. `attention_width`: layers times heads times head size.
    """

    weight_bytes: int
    linear_weights: int
    head_weights: int
    kv_bytes: int
    attention_width: int


@dataclass(frozen=True)
class MachineLimits:
    """What the machine did in a small test: bytes/s read, FLOPs/s, and the numbers' format."""

    bytes_per_s: float
    flops_per_s: float
    arithmetic: str


def step_bytes(shape: ModelShape, step: Step) -> float:
    """Bytes that a step reads and writes in memory. The step's lengths must be known."""
    touched = sum(_known(each.lengths) + each.tokens for each in (step.context, step.generation))
    return shape.weight_bytes + shape.kv_bytes * touched


def step_flops(shape: ModelShape, step: Step) -> float:
    """FLOPs of a step. A prompt's token looks back on those before it, not on those after."""
    rows = step.context.requests + step.generation.requests
    pairs = _known(step.generation.pairs) + _pairs_in_prompts(step.context)
    products = 2 * (shape.linear_weights * step.tokens + shape.head_weights * rows)
    return products + 4 * shape.attention_width * pairs


def _pairs_in_prompts(context: Tokens) -> float:
    return _known(context.pairs) - _known(context.squares) / 2


def _known(number: int | None) -> int:
    assert number is not None
    return number


def roofline(
    profile: VariantProfile, steps: Sequence[Step], shape: ModelShape, limits: MachineLimits
) -> Roofline | str:
    """The steps against the machine's limits, or the reason why that can't be said."""
    if any(each.pairs is None for step in steps for each in (step.context, step.generation)):
        return "the trace does not say how long the sequences of its steps are"
    transfers = [step_bytes(shape, step) for step in steps]
    products = [step_flops(shape, step) for step in steps]
    transfer_s = sum(transfers) / limits.bytes_per_s
    arithmetic_s = sum(products) / limits.flops_per_s
    limit_s = sum(
        max(b / limits.bytes_per_s, f / limits.flops_per_s)
        for b, f in zip(transfers, products, strict=True)
    )
    busy = busy_ms(profile) / 1e3
    share = limit_s / busy
    if share > _MOST:
        return (
            f"the measured limits allow {limit_s * 1e3 / len(steps):.2f} ms a step, and the steps "
            f"took {busy * 1e3 / len(steps):.2f} ms: the limits were measured too low"
        )
    bound = "memory" if transfer_s >= arithmetic_s else "compute"
    return Roofline(
        bound=bound,
        share=share,
        limit_ms_per_step=limit_s * 1e3 / len(steps),
        busy_ms_per_step=busy * 1e3 / len(steps),
        gigabytes_per_step=sum(transfers) / 1e9 / len(steps),
        gigaflops_per_step=sum(products) / 1e9 / len(steps),
        machine_gigabytes_per_s=limits.bytes_per_s / 1e9,
        machine_gigaflops_per_s=limits.flops_per_s / 1e9,
        arithmetic=limits.arithmetic,
        sentence=f"{profile.variant} is {bound}-bound at {share:.0%} of the limit",
    )
