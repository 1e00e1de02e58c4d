"""The settings of an experiment that remedies change, as `results` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.yaml_values import YamlValue
from results.inputs import ExperimentSettings


def settings_of(experiment: Experiment, environment: Mapping[str, Any]) -> ExperimentSettings:
    """`environment`: the contents of the run's `environment.json`."""
    finetune = experiment.finetune
    return ExperimentSettings(
        variants={variant.name: written(variant) for variant in experiment.variants},
        finetune=finetune.model_dump(mode="json") if finetune else None,
        served={variant.name: _served(experiment, variant) for variant in experiment.variants},
        styles={
            name: f"{prompt.system or ''}{prompt.user}"
            for name, prompt in experiment.prompts.items()
        },
        accelerated=_accelerated(experiment, environment),
    )


def written(variant: VariantConfig) -> Mapping[str, YamlValue]:
    """The keys of a variant that differ from their defaults, without secrets."""
    sections = {"serve": variant.serve, "finetune": variant.finetune}
    keys: dict[str, YamlValue] = variant.public().model_dump(
        mode="json", exclude_defaults=True, exclude_none=True, exclude=set(sections)
    )
    # What such a section sets is a difference even where it is the usual value.
    own = {name: each.model_dump(mode="json") for name, each in sections.items() if each}
    return keys | own


def _served(experiment: Experiment, variant: VariantConfig) -> Mapping[str, YamlValue]:
    """What the variant's server is started with."""
    serve = experiment.serve.of_variant(variant.serve)
    return serve.model_dump(mode="json") | {"engine": serve.options}


def _accelerated(experiment: Experiment, environment: Mapping[str, Any]) -> bool | None:
    """Whether the servers ran on accelerators; None where the environment does not say."""
    if experiment.serve.device != "auto":
        return experiment.serve.device == "cuda"
    hardware = environment.get("hardware")
    if not isinstance(hardware, dict) or "accelerators" not in hardware:
        return None
    return bool(hardware["accelerators"])
