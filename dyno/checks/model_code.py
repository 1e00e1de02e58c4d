"""Models that bring Python code of their own: run where the experiment says so, refused at the start where a stage can't."""

from __future__ import annotations

from collections.abc import Mapping

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from serve.vllm.supported_models import may_serve


def check_model_code(experiment: Experiment, models: Mapping[str, ModelRef]) -> None:
    """Raises BadInput for a model whose code would have to run and must not, or in a stage that runs none."""
    for variant in sorted(
        experiment.variants, key=lambda variant: not variant.is_made
    ):  # what no setting allows comes first
        model = models.get(variant.model or experiment.model)
        if variant.url or model is None or not model.path.is_dir() or not model.brings_code():
            continue
        code = f"{model.path}/config.json: auto_map: this model brings Python code of its own"
        if variant.is_made:
            raise BadInput(
                f"variants.{variant.name}.{_made_by(variant)}: {code}, which is run where it is trained and served and in no "
                "other stage; leave the variant out, or name a model that transformers has code for"
            )
        if not _has_a_way_in(model):
            raise BadInput(
                f"variants.{variant.name}: {code}, which vLLM loads by auto_map.AutoModel, and it has none; "
                "add it (the model without its head), or leave the variant out"
            )
        if not experiment.serve.trust_remote_code:
            raise BadInput(
                f"variants.{variant.name}: {code}, which is not run unless asked for; "
                "read it, then write trust_remote_code: true at the top of the experiment"
            )


def _has_a_way_in(model: ModelRef) -> bool:
    """Whether vLLM has the architecture itself, or can build it by way of transformers from the model's own code."""
    about = model.config()
    named, code = about.get("architectures"), about.get("auto_map")
    own = isinstance(named, list) and any(may_serve(str(each)) for each in named)
    return own or (isinstance(code, dict) and "AutoModel" in code)


def _made_by(variant: VariantConfig) -> str:
    return next(
        key for key in ("merge", "prune", "distil", "quantize") if getattr(variant, key) is not None
    )
