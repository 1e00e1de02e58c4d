"""A model of an engine in words: each coefficient in a unit that can be read, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from foundation.format import between, percent, significant
from results.capacity.model.engine_model import FrontEnd, LoadRange, Scheduler
from results.capacity.model.record import Coefficient, VariantModel

_TERMS = {
    "fixed": ("each step", 1),
    "per_decode": ("each request that decodes", 1),
    "per_prefill_token": ("each prompt token", 1),
    "per_kv_token": ("each 1,000 tokens in the KV cache", 1_000),
    "per_pair": ("each 1,000,000 pairs of prompt and earlier token", 1_000_000),
}
"""What a coefficient stands for, and how many of it are shown together."""
_FRONT = {
    "per_request": "each request",
    "per_input_token": "each input token",
    "per_output_token": "each output token",
}
_UNITS = ((1e-3, "ms"), (1e-6, "µs"), (0.0, "ns"))
_ROUNDS_UP = 0.9995
"""Of a unit: as much as this is written as 1.00 of it."""


def small_time(seconds: float) -> str:
    """Seconds as "8.12 ms", "41.3 µs" or "7.50 ns"; longer ones in s."""
    if seconds >= _ROUNDS_UP or seconds == 0:
        return f"{significant(seconds)} s"
    least, unit = next(step for step in _UNITS if seconds >= _ROUNDS_UP * step[0])
    return f"{significant(seconds / (least or 1e-9))} {unit}"


def _terms(model: VariantModel) -> dict[str, tuple[str, int]]:
    """What the coefficients of a model stand for: with free tokens, for the tokens beyond them."""
    if model.free_tokens is None:
        return _TERMS
    bent = {
        "fixed": _TERMS["fixed"],
        "per_prefill_token": (f"each token of a step beyond {model.free_tokens:,}", 1),
        "per_decode": ("each of these that is decoded, in addition", 1),
    }
    return bent | {name: term for name, term in _TERMS.items() if name not in bent}


def step_rows(model: VariantModel) -> Iterator[tuple[str, str, str]]:
    """What each coefficient stands for, its value and its interval; none for one that is zero."""
    for name, (words, times) in _terms(model).items():
        each = model.steps.get(name)
        if each is not None and each.high > 0:
            low, high = small_time(each.low * times), small_time(each.high * times)
            yield words, small_time(each.value * times), between(low, high)


def front_rows(front: FrontEnd) -> Iterator[tuple[str, str]]:
    """The times of the front end that are above zero."""
    for each in fields(front):
        if value := float(getattr(front, each.name)):
            yield _FRONT[each.name], small_time(value)


def limits_sentence(scheduler: Scheduler) -> str:
    """The scheduler's limits in vLLM's names; empty where the server does not say them."""
    if scheduler.max_num_seqs is None:
        return ""
    if scheduler.max_num_batched_tokens is None:  # then the other fields are what is usual
        return f"max_num_seqs {scheduler.max_num_seqs:,}"
    known = {each.name: getattr(scheduler, each.name) for each in fields(scheduler)}
    parts = [f"{name} {value:,}" for name, value in known.items() if type(value) is int]
    parts += [f"{name} {'on' if value else 'off'}" for name, value in known.items()
              if type(value) is bool]  # fmt: skip
    return ", ".join(parts)


def range_sentence(fitted: LoadRange) -> str:
    """The largest load that the model was fitted on."""
    return (
        f"{fitted.decodes:,.0f} requests that decode, {fitted.prefill_tokens:,.0f} prompt tokens "
        f"and {fitted.kv_tokens:,.0f} tokens in the KV cache in a step, requests of "
        f"{fitted.context:,.0f} tokens, {significant(fitted.rate)} requests/s"
    )


def so_far(model: VariantModel) -> str:
    """What is known so far in one line: each coefficient and how far it may be off."""
    if model.none is not None:
        return model.none
    parts = [
        f"{small_time(each.value * times)} ({_spread(each)}) {words}"
        for name, (words, times) in _terms(model).items()
        if (each := model.steps[name]).high > 0
    ]
    return " + ".join(parts)


def _spread(each: Coefficient) -> str:
    """How far a coefficient may be off, as a share of it: half the interval's width."""
    if each.value <= 0 or each.high - each.low >= 2 * each.value:
        return "not known yet"
    return f"± {percent((each.high - each.low) / (2 * each.value))}"
