"""What a step of a variant's model costs, from its files: for the roofline of a profile."""

from __future__ import annotations

from dataclasses import dataclass

import quantize
from dyno.estimates.machine_limits import Arithmetic
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from foundation.run.layout import RunDirectory
from results.profile.roofline import ModelShape
from serve import ServerPlan
from serve.vllm.speculation import draft_model

_FORMAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_KV_BYTES = {"float16": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")
_PRODUCTS: dict[str, Arithmetic] = {"w8a8-int8": "int8", "fp8-dynamic": "float8"}
"""Methods that multiply in their own format; the others multiply in the server's."""


class Unknown(Exception):
    """Why a model's costs can't be read from its files."""


@dataclass(frozen=True)
class Costs:
    """A model's shape, and the format in which its linear layers multiply."""

    shape: ModelShape
    arithmetic: Arithmetic


def costs_of(
    prepared: Prepared, variant: VariantConfig, run: RunDirectory, server: ServerPlan
) -> Costs:
    """The costs of a variant as its server serves it. Raises Unknown."""
    served = served_variant(prepared, variant, run)
    assert served.model is not None
    settings = served.model.config()
    if any(settings.get(key) for key in _EXPERTS):
        raise Unknown("the model has experts, and a step's tokens choose which of them it reads")
    config = prepared.experiment.serve_of(variant)
    if config.workers > 1:
        raise Unknown("the trace is of one of several workers, which divide the model")
    if draft_model(config.options) is not None:
        raise Unknown("a draft model takes part in its steps, whose costs are not counted")
    source = prepared.trained_base(variant, run) if variant.quantize else served.model
    if "quantization_config" in source.config():
        raise Unknown("its model was quantized elsewhere, so its weights can't be counted")
    size = served.model.size_bytes()
    if served.adapter is not None:
        size += sum(file.stat().st_size for file in served.adapter.glob("*.safetensors"))
    dtype = _dtype(server, settings)
    vocabulary, hidden = _number(settings, "vocab_size"), _number(settings, "hidden_size")
    heads, layers = (
        _number(settings, "num_attention_heads"),
        _number(settings, "num_hidden_layers"),
    )
    head_size = _number(settings, "head_dim", hidden // heads)
    kv_heads = _number(settings, "num_key_value_heads", heads)
    embeddings = vocabulary * hidden
    # A table of embeddings is read a row a token, unless it is the output layer too.
    is_tied = not any(name.startswith("lm_head.") for name in served.model.shapes())
    return Costs(
        ModelShape(
            weight_bytes=size - (0 if is_tied else embeddings * _FORMAT_BYTES[dtype]),
            linear_weights=quantize.count_weights(source) - embeddings * (1 if is_tied else 2),
            head_weights=embeddings,
            kv_bytes=2 * layers * kv_heads * head_size * _kv_bytes(server, dtype),
            attention_width=layers * heads * head_size,
        ),
        _PRODUCTS.get(variant.quantize.method if variant.quantize else "", dtype),
    )


def _dtype(server: ServerPlan, settings: dict[str, object]) -> Arithmetic:
    """The server's format; its `auto` is that of the model's own config."""
    name: object = server.dtype.dtype
    if name == "auto":
        name = settings.get("dtype", settings.get("torch_dtype"))
        name = "bfloat16" if name == "float32" else name  # what vLLM's auto makes of it
    match name:
        case "bfloat16" | "float16" | "float32":
            return name
    raise Unknown(f"the model's number format {name!r} is unknown")


def _kv_bytes(server: ServerPlan, dtype: str) -> int:
    """Bytes of a number in the KV cache. Raises Unknown for a format of other sizes."""
    option = "--kv-cache-dtype="
    formats = [a.removeprefix(option) for a in server.arguments if a.startswith(option)]
    name = formats[-1] if formats else "auto"
    if name in _KV_BYTES:
        return _KV_BYTES[name]
    if name == "auto":
        return _FORMAT_BYTES[dtype]
    raise Unknown(f"the size of a number in a KV cache of {name} is unknown")


def _number(settings: dict[str, object], key: str, otherwise: int | None = None) -> int:
    value = settings.get(key)
    value = otherwise if value is None else value
    if not isinstance(value, int) or value <= 0:
        raise Unknown(f"its config.json has no {key}")
    return value
