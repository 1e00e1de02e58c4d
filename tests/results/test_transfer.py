"""A step time in another variant's structure: synthetic truths with little data of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from foundation.arrays import Floats
from foundation.run.records import VariantRecord
from results.capacity.model.engine_model import (
    COEFFICIENTS,
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepJump,
)
from results.capacity.model.step_fit import fit_steps
from results.capacity.model.steps import Steps
from results.capacity.model.transfer import (
    FittedModel,
    in_structures,
    is_same_model,
    lacks,
    transferred,
)

MERGED = np.array([20e-3, 6e-4, 1.2e-4, 4e-7, 5e-8])
INT8 = MERGED * [0.6, 0.8, 0.5, 1.0, 1.1]
"""Weights of a quarter of the bytes and another kernel; the cache is the same."""
LOADS = [(1, 32, 32), (1, 1000, 16), (32, 32, 64), (32, 700, 64), (8, 500, 32)]
"""In flight, prompt and answer: they fix every coefficient."""
LARGEST = np.array([[1, 32, 0, 32 * 700, 0], [1, 24, 1024, 24 * 700, 1024 * 512]], float)
"""Steps beyond what the variant's own load has."""


def steps_at(truth: Floats, seed: int, seconds: float, *loads: tuple[int, int, int]) -> Steps:
    """Steps of closed loops: in flight, prompt, answer. A step errs by 4 %, a second by 2 %."""
    rng = np.random.default_rng(seed)
    parts = []
    for b, p, o in loads:
        count = int(seconds / len(loads) / (truth @ [1, b, 0, b * (p + o / 2), 0]))
        has_prompt = np.arange(count) % max(1, o // b) == 0
        context = p + rng.integers(0, o, count)
        decodes = np.where(has_prompt, b - 1.0, b)
        prompts = np.where(has_prompt, float(p), 0.0)
        work = np.column_stack(
            [np.ones(count), decodes, prompts, decodes * context, prompts * prompts / 2]
        )
        ended = np.cumsum(work @ truth)
        common = rng.standard_normal(int(ended[-1]) + 1)[ended.astype(int)]
        elapsed = work @ truth * (1 + 0.04 * rng.standard_normal(count) + 0.02 * common)
        block = np.zeros(count, np.int64)
        has_one = has_prompt.astype(np.float64)
        parts.append(Steps(elapsed, *work.T[1:], ended, block, has_one, float(p + o), 1.0))
    return Steps.joined(parts)


def model_of(steps: Steps) -> EngineModel:
    fit = fit_steps(steps)
    assert not isinstance(fit, str)
    return EngineModel(
        fit.steps, FrontEnd(), Scheduler(), fit.fitted, "engine record", fit.draws, fit.residual
    )


def variant(name: str, **fields: Any) -> VariantRecord:
    """A variant; int8 is quantized from merged unless `fields` say otherwise."""
    usual = {"what": name, "prompt_style": "plain"}
    source = {"unquantized": "merged"} if name == "int8" else {}
    return VariantRecord(name=name, **(usual | source | fields))


@pytest.fixture(scope="module")
def merged() -> EngineModel:
    """The model of the other variant, from loads that fix it."""
    return model_of(steps_at(MERGED, 100, 180.0, *LOADS))


def test_int8_in_merged_s_structure_is_within_a_tenth_and_in_its_interval(
    merged: EngineModel,
) -> None:
    for seed in range(8):
        own = steps_at(INT8, seed, 60.0, (1, 64, 32), (8, 128, 24))
        fit = transferred(own, merged, "merged", seed)
        truth = LARGEST @ INT8
        np.testing.assert_allclose(LARGEST @ fit.steps.coefficients, truth, rtol=0.1)
        low, high = np.percentile(fit.draws @ LARGEST.T, (2.5, 97.5), axis=0)
        assert (low <= truth).all() and (truth <= high).all()
        assert "in proportion to merged" in fit.notes[0]


def test_without_the_structure_the_same_data_are_far_off(merged: EngineModel) -> None:
    own = model_of(steps_at(INT8, 0, 60.0, (8, 128, 24)))
    assert lacks(own, merged)
    assert not lacks(merged, merged)
    errors = LARGEST @ own.steps.coefficients / (LARGEST @ INT8) - 1
    assert np.abs(errors).max() > 0.1


def test_intervals_hold_variants_of_any_ratio(merged: EngineModel) -> None:
    rng, inside = np.random.default_rng(5), []
    for seed in range(30):
        parts = np.clip(rng.normal(1, 0.4, 2), 0.2, 2)[[0, 0, 0, 1, 1]]
        truth = MERGED * parts * np.clip(rng.normal(1, 0.2, len(COEFFICIENTS)), 0.3, 2)
        fit = transferred(steps_at(truth, seed, 30.0, (8, 128, 24)), merged, "merged", seed)
        low, high = np.percentile(fit.draws @ LARGEST.T, (2.5, 97.5), axis=0)
        inside.append((low <= LARGEST @ truth) & (LARGEST @ truth <= high))
    assert np.mean(inside) >= 0.9


def test_only_a_variant_whose_load_leaves_it_open_takes_a_structure(merged: EngineModel) -> None:
    few, enough = steps_at(INT8, 0, 60.0, (8, 128, 24)), steps_at(MERGED, 3, 180.0, *LOADS)
    fits = {
        "merged": FittedModel(merged, enough),
        "int8": FittedModel(model_of(few), few),
        "away": "nothing was measured",
    }
    models = in_structures(fits, [variant(name) for name in fits])
    assert models["merged"] is merged
    assert models["away"] == "nothing was measured"
    int8 = models["int8"]
    assert isinstance(int8, EngineModel)
    assert int8.fitted.decodes == 32
    assert int8.notes[0].startswith("its own load leaves open what a step takes")
    for others in ([], [variant("merged", size_bytes=10**9)], [variant("merged", kind="url")]):
        records = [variant("int8", unquantized=None, size_bytes=10**8), *others]
        alone = in_structures({each.name: fits[each.name] for each in records}, records)["int8"]
        assert isinstance(alone, EngineModel)
        assert alone.fitted.decodes == 8


@pytest.mark.parametrize(
    ("own_shape", "shape"),
    [
        ({"jump": StepJump(4, 1.5)}, {"jump": StepJump(20, 1.3)}),
        ({"free_tokens": 4}, {"free_tokens": 9}),
        ({"free_tokens": 4}, {"jump": StepJump(20, 1.3)}),
        ({"jump": StepJump(4, 1.5)}, {}),
    ],
)
def test_the_notes_name_the_shape_of_the_structure_and_no_other(
    merged: EngineModel, own_shape: dict[str, Any], shape: dict[str, Any]
) -> None:
    few = steps_at(INT8, 0, 60.0, (8, 128, 24))
    own = model_of(few)
    own_times = replace(own.steps, **own_shape)
    own = replace(own, steps=own_times, notes=(*own_times.notes, "a note"))
    times = replace(merged.steps, **shape)
    other = replace(merged, steps=times, notes=tuple(times.notes))
    fits = {"merged": FittedModel(other, few), "int8": FittedModel(own, few)}
    model = in_structures(fits, [variant(name) for name in fits])["int8"]
    assert isinstance(model, EngineModel)
    assert (model.steps.jump, model.steps.free_tokens) == (times.jump, times.free_tokens)
    assert model.notes[1:] == (*times.notes, "a note")


def test_variants_of_one_model_are_known_by_their_source_or_by_their_size() -> None:
    records = {
        each.name: each
        for each in (
            variant("base", size_bytes=1000),
            variant("adapter", size_bytes=1030, kind="adapter"),
            variant("int8", size_bytes=600, kind="quantized", unquantized="base", weight_bits=8),
            variant("int4", size_bytes=300, kind="quantized", weight_bits=4),
            variant("other", size_bytes=7000),
            variant("away", kind="url"),
        )
    }

    def same(one: str, other: str) -> bool:
        return is_same_model(records[one], records[other], records)

    assert same("base", "adapter")
    assert same("int8", "base")
    assert same("int8", "adapter")
    assert not same("int4", "base")  # nobody says what it was quantized from
    assert not same("other", "base")
    assert not same("away", "base")


def test_the_model_reaches_as_far_as_the_larger_data(merged: EngineModel) -> None:
    fit = transferred(steps_at(INT8, 1, 20.0, (8, 128, 24)), merged, "merged")
    assert fit.fitted == LoadRange(32.0, 1000.0, 1016.0, merged.fitted.kv_tokens, 1.0)


def test_data_of_its_own_outweigh_the_other_s_structure(merged: EngineModel) -> None:
    odd = MERGED * [0.5, 2.0, 0.3, 1.5, 1.0]
    loads = [(1, 32, 32), (32, 32, 64), (32, 700, 64), (8, 500, 32)]
    fit = transferred(steps_at(odd, 2, 180.0, *loads), merged, "merged")
    np.testing.assert_allclose(LARGEST @ fit.steps.coefficients, LARGEST @ odd, rtol=0.02)
    np.testing.assert_allclose(fit.steps.coefficients[:2], odd[:2], rtol=0.02)
