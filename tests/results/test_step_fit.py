"""Step times fitted to steps of known coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from foundation.arrays import Floats
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.model.held_out import pays
from results.capacity.model.nonnegative import NormalEquations
from results.capacity.model.record import model_record
from results.capacity.model.step_fit import DRAWS, StepFit, fit_steps
from results.capacity.model.steps import Steps
from results.capacity.model.words import so_far, step_rows

TRUE = np.array([8e-3, 1e-3, 0.1e-3, 2e-6, 0.0])


def steps(
    n: int = 2000, noise: float = 0.05, seed: int = 0, true: Floats = TRUE, blocks: int = 8,
    decodes: int | None = None,
) -> Steps:  # fmt: skip
    """n steps of random work; a third of them has a prompt."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(1, 17, n) if decodes is None else np.full(n, decodes)
    prompt = rng.integers(16, 400, n) * (rng.random(n) < 0.33)
    work = np.column_stack(
        [np.ones(n), batch, prompt, batch * rng.integers(20, 600, n), prompt**2 / 2]
    ).astype(np.float64)
    elapsed = work @ true * (1 + noise * rng.standard_normal(n))
    return Steps(
        elapsed, work[:, 1], work[:, 2], work[:, 3], work[:, 4], np.arange(n) * 0.02,
        np.arange(n) * blocks // n, (prompt > 0).astype(np.float64), context=1000.0, rate=5.0,
    )  # fmt: skip


def fit(of: Steps, seed: int = 0) -> StepFit:
    result = fit_steps(of, seed)
    assert isinstance(result, StepFit)
    return result


def test_coefficients_are_found_and_the_residual_is_the_noise() -> None:
    result = fit(steps(8000))
    assert result.steps.coefficients[:4] == pytest.approx(TRUE[:4], rel=0.02)
    assert result.steps.per_pair == 0.0
    assert result.residual == pytest.approx(0.05, rel=0.05)
    assert result.draws.shape == (DRAWS, 5)
    assert result.notes == ()
    assert result.fitted.decodes == 16 and result.fitted.context == 1000.0


@pytest.mark.parametrize("blocks", [2, 8])
def test_intervals_contain_the_truth_about_as_often_as_they_say(blocks: int) -> None:
    """The time of a step of 10 requests and a prompt of 50: 95 of 100 is 21 or more of 24."""
    load = np.array([1, 10, 50, 3000, 0])
    inside = 0
    for seed in range(24):
        low, high = np.percentile(
            fit(steps(400, 0.1, seed, blocks=blocks), seed).draws @ load, (2.5, 97.5)
        )
        inside += low <= load @ TRUE <= high
    assert inside >= 21


def test_a_machine_that_drifts_is_known_less_well() -> None:
    drifting, load = steps(4000, 0.02, blocks=16), np.array([1, 10, 50, 3000, 0])
    drifting.elapsed[:] *= 1 + 0.1 * np.sin(np.arange(4000) / 4000 * 2 * np.pi)
    steady, unsteady = (fit(each).draws @ load for each in (steps(4000, 0.02, blocks=16), drifting))
    assert np.std(unsteady) > 10 * np.std(steady)
    low, high = np.percentile(unsteady, (2.5, 97.5))
    assert low <= load @ TRUE <= high


def test_attention_in_a_prompt_counts_where_it_pays() -> None:
    true = TRUE + np.array([0, 0, 0, 0, 0.5e-6])
    assert fit(steps(8000, true=true)).steps.per_pair == pytest.approx(0.5e-6, rel=0.05)


def test_a_jump_at_a_number_of_requests_is_fitted_and_named() -> None:
    some = steps(8000)
    some.elapsed[some.requests > 11] *= 1.5
    result = fit(some)
    assert result.steps.jump is not None
    assert result.steps.jump.above == 11
    assert result.steps.jump.factor == pytest.approx(1.5, rel=0.01)
    assert result.steps.coefficients[:4] == pytest.approx(TRUE[:4], rel=0.03)
    assert result.residual == pytest.approx(0.05, rel=0.1)
    assert any("more than 11 requests take 1.5 times" in note for note in result.notes)


def test_the_tokens_that_a_step_computes_while_it_reads_the_weights_are_found() -> None:
    """A roofline: up to 7 tokens a step takes as long as its weights, then each token counts."""
    some, (fixed, decode, token, kv, _) = steps(8000, noise=0.0), TRUE
    tokens = some.decodes + some.prefill_tokens
    taken = np.maximum(tokens - 7, 0)
    of_tokens = token * taken + decode * some.decodes * taken / tokens
    some.elapsed[:] = fixed + of_tokens + kv * some.kv_tokens
    some.elapsed[:] *= 1 + 0.03 * np.random.default_rng(2).standard_normal(8000)
    result = fit(some)
    assert result.steps.free_tokens == 7
    assert result.steps.jump is None
    assert result.steps.coefficients[:4] == pytest.approx(TRUE[:4], rel=0.02)
    assert result.residual == pytest.approx(0.03, rel=0.1)
    assert any("first 7 tokens while it reads the weights" in note for note in result.notes)


def test_the_words_of_a_bend_are_of_the_tokens_beyond_it() -> None:
    times = StepTime(0.02, 1e-3, 2e-3, free_tokens=6)
    reach = LoadRange(1, 1, 1, 1, 1)
    model = EngineModel(times, FrontEnd(), Scheduler(), reach, "engine record")
    record = model_record(model, "identity", [], 1.0)
    assert [row[:2] for row in step_rows(record)] == [
        ("each step", "20.0 ms"),
        ("each token of a step beyond 6", "2.00 ms"),
        ("each of these that is decoded, in addition", "1.00 ms"),
    ]
    assert "each token of a step beyond 6" in so_far(record)


def test_one_fold_shows_no_gain() -> None:
    assert not pays(np.array([1.0]))
    assert pays(np.array([1.0, 1.1]))
    assert not pays(np.array([1.0, -1.0]))


def test_no_bend_is_seen_in_steps_that_have_none() -> None:
    assert all(fit(steps(2000, seed=seed)).steps.free_tokens is None for seed in range(5))


def test_a_bend_is_named_as_a_misfit_still() -> None:
    """Requests beyond the tenth take three times as long each: the fit is off, and says so."""
    some = steps(8000, noise=0.02)
    some.elapsed[:] += 2e-3 * np.maximum(some.decodes - 10, 0)
    result = fit(some)
    assert any("wider" in note for note in result.notes)


def test_steps_far_off_are_left_out_and_counted() -> None:
    some = steps(4000)
    some.elapsed[::400] = 2.0  # a compilation
    result = fit(some)
    assert result.steps.coefficients[:4] == pytest.approx(TRUE[:4], rel=0.05)
    (note,) = result.notes
    assert note.startswith("10 of 4,000 steps, ") and "left out" in note


def test_one_batch_size_cannot_tell_a_step_from_its_requests() -> None:
    result = fit(steps(3000, noise=0.02, decodes=4))
    fixed, decode = result.draws[:, 0], result.draws[:, 1]
    together = TRUE[0] + 4 * TRUE[1]
    assert fixed + 4 * decode == pytest.approx(together, rel=0.05)
    assert fixed.min() < 0.1 * together and fixed.max() > 0.9 * together
    assert result.steps.fixed == pytest.approx(together / 2, rel=0.2)
    assert any("tell apart" in note and "requests that decode" in note for note in result.notes)


def test_work_that_no_step_has_is_named() -> None:
    some = steps(500)
    some.prefill_tokens[:] = 0.0
    some.pairs[:] = 0.0
    some.elapsed[:] = some.work @ TRUE
    result = fit(some)
    assert result.steps.per_prefill_token == 0.0 and not result.draws[:, 2].any()
    assert result.fitted.prefill_tokens == 0.0
    assert "no step computes a prompt, so the time of a prompt token is not known" in result.notes


def test_a_few_steps_are_no_model() -> None:
    assert fit_steps(steps(49)) == "49 steps are known, and a step time needs 50"


def test_few_blocks_are_cut_into_pieces_of_time() -> None:
    segments = steps(240, blocks=2).segments()
    assert np.bincount(segments).tolist() == [10] * 24
    assert (np.diff(segments) >= 0).all()
    assert np.bincount(steps(240, blocks=8).segments()).tolist() == [30] * 8


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40))
def test_normal_equations_give_the_least_squares_of_scipy(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    design = rng.random((n, k)) * 10.0 ** rng.integers(-3, 4, k)
    target = rng.normal(size=n)
    equations = NormalEquations.of(design, target, np.zeros(n, np.int64))
    coefficients = equations.solved()
    assert (coefficients >= 0).all()
    best = nnls(design, target)[1] ** 2
    assert equations.errors(coefficients)[0] == pytest.approx(best, rel=1e-6, abs=1e-6)
