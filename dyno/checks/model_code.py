"""Checks models that bring Python code: it runs only if the experiment allows it."""

from __future__ import annotations

from collections.abc import Mapping

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from serve.vllm.supported_models import may_serve


def check_model_code(experiment: Experiment, models: Mapping[str, ModelRef]) -> None:
    """Raises BadInput for a model whose code must not run, or for a stage that runs no such code.

    `models`: by their names in the experiment.
    """
    # Variants that no setting can allow come first.
    for variant in sorted(experiment.variants, key=lambda variant: not variant.is_made):
        model = models.get(variant.model or experiment.model)
        if variant.url or model is None or not model.path.is_dir():
            continue
        if not model.brings_code() and not model.tokenizer_brings_code():
            continue
        file = "config.json" if model.brings_code() else "tokenizer_config.json"
        code = f"{model.path}/{file}: auto_map: this model brings Python code of its own"
        if variant.is_made:
            raise BadInput(
                f"variants.{variant.name}.{_made_by(variant)}: {code}, "
                "which is run where it is trained and served and in no other stage; "
                "leave the variant out, or name a model that transformers has code for"
            )
        if model.brings_code() and not _loads_in_vllm(model):
            raise BadInput(
                f"variants.{variant.name}: {code}, which vLLM loads by auto_map.AutoModel, "
                "and it has none; add it (the model without its head), or leave the variant out"
            )
        if not experiment.serve.trust_remote_code:
            raise BadInput(
                f"variants.{variant.name}: {code}, which is not run unless asked for; "
                "read it, then write trust_remote_code: true at the top of the experiment"
            )


def _loads_in_vllm(model: ModelRef) -> bool:
    """Whether vLLM has the architecture, or can build it from the model's code by transformers."""
    config = model.config()
    names, code = config.get("architectures"), config.get("auto_map")
    is_known = isinstance(names, list) and any(may_serve(str(name)) for name in names)
    return is_known or (isinstance(code, dict) and "AutoModel" in code)


def _made_by(variant: VariantConfig) -> str:
    """The key of the variant that makes a checkpoint necessary."""
    return next(
        key for key in ("merge", "prune", "distil", "quantize") if getattr(variant, key) is not None
    )
