"""The experiment of a round: what stood before, and the variants that remedies make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.relative_rates import reference_variants
from dyno.pipeline.settings import written
from foundation.errors import BadInput
from foundation.wrong_values import wrong_value
from foundation.yaml_values import YamlValue


def new_variant(keys: Mapping[str, YamlValue], names: Sequence[str]) -> VariantConfig:
    """The variant of a remedy, under a name that no variant of `names` has. Raises BadInput."""
    try:
        variant = VariantConfig.model_validate(dict(keys))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        message = wrong_value(problem)
        raise BadInput(f"{field}: {message}" if field else message) from None
    taken = {name.casefold() for name in names}
    name, number = variant.name, 2
    while name.casefold() in taken:
        name, number = f"{variant.name}-{number}", number + 1
    return variant.model_copy(update={"name": name})


def made_as(variant: VariantConfig) -> str:
    """A text that is the same for two variants that differ in their names alone."""
    keys = {key: value for key, value in written(variant).items() if key != "name"}
    return json.dumps(keys, sort_keys=True)


def round_experiment(
    experiment: Experiment,
    stood: Sequence[VariantConfig],
    new: Sequence[VariantConfig],
    blocks: int,
    seconds: float,
) -> Experiment:
    """The experiment of a round, under the load of the run that is improved.

    `experiment`: that of the run. `stood`: the variants that are measured again beside the `new`
    ones. `seconds`: the most that adding blocks may take. Raises BadInput for variants that do not
    go together.
    """
    changes = {"blocks": blocks, "search": None, "model": False}
    limited = {
        key: section.model_copy(update={"max_time": min(section.max_time, seconds)})
        for key in ("until_decided", "resolution")
        if (section := getattr(experiment, key)) is not None
    }
    sections = {
        **dict(experiment),
        **limited,
        "workload": experiment.workload.model_copy(update=changes),
        "variants": (*stood, *new),
        "improve": None,
    }
    try:
        return Experiment.model_validate(sections)
    except ValidationError as error:
        problem = wrong_value(error.errors()[0])
        raise BadInput(_PLACE.sub("", problem)) from None


_PLACE = re.compile(r"^variants\.\d+\.")
"""The number of a variant, which says nothing where the variant is named."""


def with_needed(
    names: Sequence[str], known: Mapping[str, VariantConfig], load: Experiment
) -> list[VariantConfig]:
    """The variants of these names, with their teachers and those that a relative rate refers to.

    `known`: all variants so far, in the order in which they came. `load`: whose stages count.
    """
    needed = {*names, *reference_variants(load)}
    for name in reversed(list(known)):
        if name in needed and (teacher := known[name].distil):
            needed.add(teacher)
    return [variant for name, variant in known.items() if name in needed]
