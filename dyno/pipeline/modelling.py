"""Measures the step times of variants: each load is chosen from all that was learned before it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from dyno.pipeline.blocks import LoadBlock, variants_named
from dyno.pipeline.model_series import LoadSeries
from dyno.pipeline.prepared import Prepared
from foundation.errors import BadInput
from foundation.processor import processor_name
from foundation.progress import Progress
from foundation.run.journal import Damage, is_whole
from foundation.run.json_files import read_json, write_json
from foundation.run.layout import RunDirectory
from results.capacity.model.loads import BUDGET_S
from results.capacity.model.record import MODELS_SCHEMA_VERSION, EngineModels, VariantModel

RunLoad = Callable[[LoadBlock], Awaitable[None]]
"""Sends a block and writes its journal, or leaves it cut off where the variant's server failed."""


async def measure_models(
    prepared: Prepared,
    names: Sequence[str],
    out: RunDirectory,
    run_load: RunLoad,
    progress: Progress,
    budget_s: float = BUDGET_S,
) -> dict[str, VariantModel]:
    """Runs the loads that the models of variants lack, the variants in turns; keeps `model.json`.

    `budget_s`: the time for the loads of one variant. Whole journals of an earlier try count.
    """
    series = {name: LoadSeries(prepared, name, out, budget_s) for name in names}
    for each in series.values():
        each.put_stale_aside()
    going = list(names)
    while going:
        for name in list(going):
            if (block := series[name].next_block()) is None:
                going.remove(name)
                continue
            await run_load(block)
            if not is_whole(block.journal, block.identity):
                going.remove(name)
                continue
            series[name].learn()
            progress.log(series[name].sentence())
    models = {name: each.record() for name, each in series.items()}
    keep_models(models, out)
    return models


def lacking_models(prepared: Prepared, names: Sequence[str], out: RunDirectory) -> list[str]:
    """The variants without a model of what they are now."""
    stored = stored_models(out)
    identities = {
        name: prepared.graph.model_loads(variant).identity
        for name, variant in variants_named(prepared, names).items()
    }
    return [
        name
        for name, identity in identities.items()
        if name not in stored or stored[name].none or stored[name].identity != identity
    ]


def stored_models(out: RunDirectory) -> Mapping[str, VariantModel]:
    """The models of `model.json`, by variant; none without that file.

    Raises BadInput for a damaged file, and for that of a newer tunedyno.
    """
    models = read_json(out.path, out.models.name, EngineModels)
    if isinstance(models, Damage):
        raise BadInput(f"{out.models}: {models.why}; delete it to fit the models again")
    if models is None:
        return {}
    if models.schema_version > MODELS_SCHEMA_VERSION:
        raise BadInput(
            f"{out.models}: schema_version {models.schema_version}, this tunedyno reads up to "
            f"{MODELS_SCHEMA_VERSION}; use the newer one"
        )
    return models.variants


def keep_models(models: Mapping[str, VariantModel], out: RunDirectory) -> None:
    """Writes models to `model.json`, beside those of other variants."""
    everything = {**stored_models(out), **models}
    record = EngineModels(processor=processor_name(), variants=everything)
    write_json(record, out.models)
