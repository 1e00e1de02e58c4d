"""Steps that are off their model, by construction."""

from __future__ import annotations

import numpy as np
import pytest

from results.capacity.model.misfit import misfit
from results.capacity.model.steps import Steps


def steps(decodes: np.ndarray, elapsed: np.ndarray, prefill: np.ndarray | None = None) -> Steps:
    nothing = np.zeros(len(decodes))
    return Steps(
        elapsed,
        decodes.astype(np.float64),
        nothing if prefill is None else prefill,
        nothing,
        nothing,
        np.cumsum(elapsed),
        np.arange(len(decodes)) // max(1, len(decodes) // 10),
        (nothing if prefill is None else prefill) > 0.0,
    )


def test_noise_alone_is_no_misfit() -> None:
    rng = np.random.default_rng(1)
    decodes = rng.integers(1, 33, 4_000)
    modelled = 0.01 + 0.001 * decodes
    worst = misfit(steps(decodes, modelled * rng.lognormal(-0.005, 0.1, 4_000)), modelled)
    assert worst.share == 0.0
    assert worst.note is None


def test_a_jump_at_a_number_of_requests_is_found_and_named() -> None:
    rng = np.random.default_rng(2)
    decodes = rng.integers(1, 33, 4_000)
    modelled = 0.01 + 0.001 * decodes
    elapsed = np.where(decodes >= 30, 1.5, 1.0) * modelled * rng.lognormal(0, 0.02, 4_000)
    worst = misfit(steps(decodes, elapsed), modelled)
    assert worst.share == pytest.approx(0.5, abs=0.15)
    assert worst.decodes[0] >= 28
    assert worst.deviation == pytest.approx(worst.share / 1.96)
    assert worst.note is not None and "longer" in worst.note


def test_steps_with_a_prompt_are_looked_at_alone() -> None:
    decodes, modelled = np.full(200, 4), np.full(200, 0.01)
    prefill = np.where(np.arange(200) % 2, 64.0, 0.0)
    elapsed = np.where(prefill > 0, 0.008, 0.01)
    worst = misfit(steps(decodes, elapsed, prefill), modelled)
    assert (worst.share, worst.with_prompt) == (pytest.approx(-0.2), True)
    assert worst.note == (
        "steps of 4 requests that decode and a prompt take 20.0 % shorter than the model says; "
        "every interval is as much wider"
    )


def test_one_segment_says_nothing() -> None:
    assert misfit(steps(np.ones(1), np.full(1, 0.02)), np.full(1, 0.01)).share == 0.0
