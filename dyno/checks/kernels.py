"""Whether what serves here knows the models of an experiment, and has kernels for their number formats."""

from __future__ import annotations

from collections.abc import Mapping

from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from foundation.gpus import compute_capability
from foundation.models.model import ModelRef
from serve.device import device_for
from serve.vllm.quantization import FORMATS, stored_formats, why_not_on_cpu, why_not_on_cuda
from serve.vllm.supported_models import may_serve


def check_kernels(experiment: Experiment, models: Mapping[str, ModelRef]) -> None:
    """Raises BadInput for an architecture that vLLM does not know, and for a quantization, made here or stored in a model, that
    can't be served on this device. Without an accelerator at hand nobody knows.
    """
    kind, capability = device_for(experiment.serve).kind, compute_capability()

    def why_not(number_format: str) -> str | None:
        if kind == "cpu":
            return why_not_on_cpu(number_format)
        return why_not_on_cuda(number_format, capability) if capability is not None else None

    for variant in experiment.variants:
        model = None if variant.url else models.get(variant.model or experiment.model)
        if model is not None and (model.path / "config.json").is_file():
            _check_architecture(variant.name, model)
        else:
            model = None
        if variant.quantize is not None:
            if why := why_not(variant.quantize.method):
                raise BadInput(
                    f"variants.{variant.name}.quantize: {variant.quantize.method} can't be served here: {why}; "
                    "leave the variant out (dyno quantize writes its checkpoint all the same)"
                )
        elif model is not None:
            stored = model.config().get("quantization_config")
            formats = stored_formats(stored) if isinstance(stored, dict) else []
            for each in formats:
                if why := why_not(each):
                    raise BadInput(
                        f"variants.{variant.name}: {model.path}: quantized already, "
                        f"and can't be served here: {why}"
                    )
                if variant.adapter and kind == "cpu" and not FORMATS[each].adapters_on_cpu:
                    raise BadInput(
                        f"variants.{variant.name}.adapter: {model.path} is {each}, on which vLLM's "
                        "CPU backend serves no adapter; name the full-precision model, or write "
                        "merge and quantize on that"
                    )


def _check_architecture(variant: str, model: ModelRef) -> None:
    about = model.config()
    named = about.get("architectures")
    if (
        isinstance(named, list)
        and named
        and not about.get("auto_map")
        and not any(may_serve(str(each)) for each in named)
    ):
        raise BadInput(
            f"variants.{variant}: {model.path}/config.json: architectures: the installed vLLM serves no {named[0]}; "
            "name a model that it serves, or one that is served elsewhere by its url"
        )
