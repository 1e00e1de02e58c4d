"""The schema of `model.json`: the models of a run's engines, as they were fitted to its loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from results.capacity.model.engine_model import (
    COEFFICIENTS,
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepJump,
)
from results.capacity.model.loads import ModelLoad

MODELS_SCHEMA_VERSION = 1


class Coefficient(msgspec.Struct, frozen=True, kw_only=True):
    """A coefficient of `StepTime`, s, and its 95 % interval."""

    value: float
    low: float
    high: float


class VariantModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model of a variant's engine, or `none`: why there is no model.

    `identity`: that of the journals of its `loads`. `steps`: by the names of `COEFFICIENTS`.
    `measured_s`: what the loads took. The other fields are those of `EngineModel`.
    """

    identity: str
    loads: list[ModelLoad]
    measured_s: float
    none: str | None = None
    steps: dict[str, Coefficient] = {}
    jump: StepJump | None = None
    free_tokens: int | None = None
    front: FrontEnd | None = None
    scheduler: Scheduler | None = None
    fitted: LoadRange | None = None
    residual: float | None = None
    source: Literal["engine record", "kernel stamps"] | None = None
    notes: list[str] = []


class EngineModels(msgspec.Struct, frozen=True, kw_only=True):
    """The models of a run, by variant. `processor`: what the servers of this machine ran on."""

    schema_version: int = MODELS_SCHEMA_VERSION
    processor: str
    variants: dict[str, VariantModel]


def model_record(
    model: EngineModel | str, identity: str, loads: Sequence[ModelLoad], measured_s: float
) -> VariantModel:
    """A model as `model.json` keeps it."""
    if isinstance(model, str):
        return VariantModel(identity=identity, loads=list(loads), measured_s=measured_s, none=model)
    best = model.steps.coefficients
    draws = model.draws if len(model.draws) else best[None]
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    rows = zip(COEFFICIENTS, best.tolist(), low.tolist(), high.tolist(), strict=True)
    return VariantModel(
        identity=identity,
        loads=list(loads),
        measured_s=measured_s,
        steps={
            name: Coefficient(value=value, low=least, high=most)
            for name, value, least, most in rows
        },
        jump=model.steps.jump,
        free_tokens=model.steps.free_tokens,
        front=model.front,
        scheduler=model.scheduler,
        fitted=model.fitted,
        residual=model.residual,
        source=model.source,
        notes=list(model.notes),
    )
