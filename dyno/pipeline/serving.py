"""Plans the servers of an experiment's variants: up together, or in turns."""

from __future__ import annotations

import quantize
import serve
from dyno.checks.kernels import check_kernels
from dyno.checks.templates import served_template
from dyno.experiment.endpoints import endpoint_of
from dyno.experiment.variants import VariantConfig, is_own
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.relative_rates import reference_variants
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.run.layout import RunDirectory
from quantize.methods import METHODS
from serve import PlannedWeights, ServedVariant


def served_variant(prepared: Prepared, variant: VariantConfig, run: RunDirectory) -> ServedVariant:
    """The variant as `serve` needs it; its files may be missing yet."""
    if variant.url:
        return ServedVariant(
            variant.name, None, elsewhere=endpoint_of(variant, prepared.experiment.workload.api)
        )
    base, checkpoint = prepared.base_of(variant), prepared.graph.checkpoint(variant)
    model = ModelRef(base.id, base.revision, prepared.path(checkpoint, run)) if checkpoint else base
    unmade = checkpoint is not None and not model.path.is_dir()
    training = prepared.experiment.finetune_of(variant)
    rank = training.saved_rank if training and is_own(variant.adapter) else None
    adapter = prepared.adapter_path(variant, run)
    return ServedVariant(
        variant.name,
        model,
        adapter=adapter,
        rank=rank,
        bits=METHODS[variant.quantize.method].bits if variant.quantize else None,
        planned=_planned(variant, base) if unmade and base.path.is_dir() else None,
        template=served_template(prepared, variant, adapter, base) if adapter else None,
        api=prepared.experiment.workload.api,
        settings=variant.serve,
    )


def _planned(variant: VariantConfig, base: ModelRef) -> PlannedWeights:
    """What the variant's checkpoint will hold: the base's weights, or fewer if it is pruned."""
    if variant.quantize is None:
        return PlannedWeights(quantize.count_weights(base))
    return PlannedWeights(*quantize.planned_weights(base, variant.quantize))


def plan_serving(prepared: Prepared, run: RunDirectory) -> serve.ServePlan:
    """The servers, their arguments and the rounds in which they are up.

    Raises BadInput for variants that can't be served, and for loads that need all servers at once.
    """
    experiment = prepared.experiment
    check_kernels(experiment, prepared.models)
    plan = serve.check(
        [served_variant(prepared, variant, run) for variant in experiment.variants],
        experiment.serve,
    )
    if (len(plan.rounds) > 1 or plan.residency == "sleep") and any(
        stage.mix for stage in experiment.workload.stages
    ):
        raise BadInput(
            "workload.stages: a mix needs all variants at once; "
            "give their servers memory to be resident"
        )
    first = set(plan.rounds[0]) if plan.rounds else set()
    if later := [name for name in reference_variants(experiment) if name not in first]:
        raise BadInput(
            f"workload.stages: rates relative to {', '.join(later)} must be measured before any "
            f"stage begins, and the servers, which need {plan.memory_bytes / 1e9:.1f} GB together, "
            "take turns; "
            "name a variant of the first turn, or give the servers memory to be resident"
        )
    adding = next(
        (key for key in ("until_decided", "resolution") if getattr(experiment, key)), None
    )
    if adding and len(plan.rounds) > 1:
        raise BadInput(
            f"{adding}: the servers take turns, so blocks can't be added to all; "
            "give them memory to be resident"
        )
    return plan
