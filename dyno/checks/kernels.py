"""Checks that the server here supports the models and number formats of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.errors import BadInput
from foundation.gpus import compute_capability
from foundation.models.model import ModelRef
from serve.device import device_for
from serve.vllm.quantization import FORMATS, stored_formats, why_not_on_cpu, why_not_on_cuda
from serve.vllm.supported_models import may_serve


def check_kernels(experiment: Experiment, models: Mapping[str, ModelRef]) -> None:
    """Raises BadInput for an architecture or a number format that can't be served on this device.

    `models`: by their names in the experiment. Number formats that need an accelerator are not
    checked on a machine without one.
    """
    kind = device_for(experiment.serve).kind
    unserved = _unserved_on(kind)
    for variant in experiment.variants:
        model = None if variant.url else models.get(variant.model or experiment.model)
        if model is not None and not (model.path / "config.json").is_file():
            model = None
        if model is not None:
            _check_architecture(variant.name, model)
        if variant.quantize is not None:
            if reason := unserved(variant.quantize.method):
                raise BadInput(
                    f"variants.{variant.name}.quantize: {variant.quantize.method} can't be served "
                    f"here: {reason}; leave the variant out "
                    "(dyno quantize writes its checkpoint all the same)"
                )
        elif model is not None:
            _check_stored_formats(variant, model, kind, unserved)


def _unserved_on(kind: str) -> Callable[[str], str | None]:
    """A function that says why this device can't serve a number format; None if it can."""
    if kind == "cpu":
        return why_not_on_cpu
    capability = compute_capability()
    return lambda name: None if capability is None else why_not_on_cuda(name, capability)


def _check_stored_formats(
    variant: VariantConfig, model: ModelRef, kind: str, unserved: Callable[[str], str | None]
) -> None:
    """Raises BadInput for a model that is quantized already, in a way that can't be served."""
    stored = model.config().get("quantization_config")
    for number_format in stored_formats(stored) if isinstance(stored, dict) else []:
        if reason := unserved(number_format):
            raise BadInput(
                f"variants.{variant.name}: {model.path}: quantized already, "
                f"and can't be served here: {reason}"
            )
        if variant.adapter and kind == "cpu" and not FORMATS[number_format].adapters_on_cpu:
            raise BadInput(
                f"variants.{variant.name}.adapter: {model.path} is {number_format}, on which "
                "vLLM's CPU backend serves no adapter; name the full-precision model, "
                "or write merge and quantize on that"
            )


def _check_architecture(variant: str, model: ModelRef) -> None:
    """Raises BadInput unless vLLM supports one of the model's architectures, or it brings code."""
    config = model.config()
    names = config.get("architectures")
    if not isinstance(names, list) or not names or config.get("auto_map"):
        return
    if not any(may_serve(str(name)) for name in names):
        raise BadInput(
            f"variants.{variant}: {model.path}/config.json: architectures: "
            f"the installed vLLM serves no {names[0]}; "
            "name a model that it serves, or one that is served elsewhere by its url"
        )
