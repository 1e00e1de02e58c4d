"""The settings by which an experiment's variants differ, in words: for the table of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.format import quantity
from serve.config import ServerSettings

DEFAULT = "vLLM's default"
_BYTES = frozenset({"serve.kv_cache"})


def differing_settings(experiment: Experiment) -> dict[str, dict[str, str]]:
    """By variant, the settings in which the variants differ, by their keys in an experiment.

    A variant that has no such setting lacks the key, such as one that is served elsewhere.
    """
    settings = {v.name: _settings(experiment, v) for v in experiment.variants}
    keys = dict.fromkeys(key for each in settings.values() for key in each)
    differing = [
        key for key in keys if len({each[key] for each in settings.values() if key in each}) > 1
    ]
    return {
        name: {key: each[key] for key in differing if key in each}
        for name, each in settings.items()
    }


def _settings(experiment: Experiment, variant: VariantConfig) -> dict[str, str]:
    if variant.url is not None:
        return {}
    config = experiment.serve_of(variant)
    fields = {
        f"serve.{name}": getattr(config, name)
        for name in ServerSettings.model_fields
        if name != "engine"
    }
    options = {name: None for v in experiment.variants for name in experiment.serve_of(v).options}
    engine = {f"serve.engine.{name}": config.options.get(name) for name in options}
    return _in_words(fields | engine)


def _in_words(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key: _word(key, value) for key, value in settings.items()}


def _word(key: str, value: object) -> str:
    if value is None:
        return DEFAULT
    if isinstance(value, bool):
        return str(value).lower()
    return quantity(float(str(value)), "bytes") if key in _BYTES else str(value)
