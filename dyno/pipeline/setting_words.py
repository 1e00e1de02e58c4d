"""The settings by which an experiment's variants differ, in words: for the table of the report."""

from __future__ import annotations

from pathlib import Path

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.format import quantity
from serve.config import ServerSettings

DEFAULT = "vLLM's default"


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
    training = experiment.finetune_of(variant) if variant.is_trained else None
    trained = {f"finetune.{k}": v for k, v in training.recorded.items()} if training else {}
    settings = fields | engine | trained
    return {key: setting_word(key, value) for key, value in settings.items()}


def setting_word(key: str, value: object) -> str:
    """The value of a setting in words; `key` is its name, with or without its section."""
    if value is None:
        return "none" if key.startswith("finetune.") else DEFAULT
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and Path(value).is_absolute():  # no path of this machine
        return Path(value).name
    return quantity(float(str(value)), "bytes") if key.endswith("kv_cache") else str(value)
