"""Writes `variants.json`, and describes each variant in a few words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

import serve
from dyno.experiment.request import shown_url
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from dyno.pipeline.setting_words import differing_settings, setting_word
from foundation.files.atomic_write import write_whole
from foundation.run.layout import RunDirectory
from foundation.run.records import Kind, VariantRecord
from serve.plan import is_same_server

# The options of vLLM that say when and where it computes. Any other may change an answer.
_SCHEDULING = {
    "max-num-seqs", "max-num-batched-tokens", "max-num-partial-prefills", "scheduling-policy",
    "max-long-partial-prefills", "long-prefill-token-threshold", "enable-chunked-prefill",
    "enable-prefix-caching", "prefix-caching-hash-algo", "async-scheduling", "stream-interval",
    "block-size", "num-gpu-blocks-override", "cpu-offload-gb", "swap-space", "kv-offloading-size",
    "compilation-config", "cudagraph-capture-sizes", "max-cudagraph-capture-size",
    "optimization-level", "disable-log-stats",
    "speculative-config", "spec-method", "spec-model", "spec-tokens",
}  # fmt: skip


def write_variants(prepared: Prepared, run: RunDirectory, serving: serve.ServePlan) -> None:
    """Writes each variant's description, size and dtype, for the report."""
    dtypes = {v.name: server.dtype for server in serving.servers for v in server.variants}
    settings = differing_settings(prepared.experiment)
    records = []
    for variant in prepared.experiment.variants:
        served = served_variant(prepared, variant, run)
        size = served.model.size_bytes() if served.model else None
        if size is not None and served.adapter:
            size += sum(file.stat().st_size for file in served.adapter.glob("*.safetensors"))
        records.append(
            VariantRecord(
                name=variant.name,
                what=describe(variant),
                prompt_style=prepared.style_of(variant),
                size_bytes=size,
                kind=kind(variant),
                unquantized=unquantized(variant, prepared.experiment),
                weight_bits=served.bits,
                dtype=dtypes[variant.name].dtype if variant.name in dtypes else None,
                dtype_doubt=dtypes[variant.name].doubt if variant.name in dtypes else None,
                weights=weights_of(prepared, variant),
                settings=settings[variant.name],
                adapters=_trained_adapters(prepared, variant),
                accelerators=_accelerators(prepared, variant, serving),
            )
        )
    write_whole(run.variants, msgspec.json.format(msgspec.json.encode(records), indent=2) + b"\n")


def _accelerators(
    prepared: Prepared, variant: VariantConfig, serving: serve.ServePlan
) -> int | None:
    """How many accelerators one server of a variant computes on; None where it has none of ours."""
    if variant.url or serving.config.device != "cuda":
        return None
    return prepared.experiment.serve_of(variant).accelerators


def weights_of(prepared: Prepared, variant: VariantConfig) -> str:
    """The identity of what a variant answers with: its weights, or its API, and number formats.

    The prompt and the limits of its answers belong to it; how the engine schedules does not. An
    option that is not known to be one of scheduling does, such as `quantization`.
    """
    parts = prepared.graph.served(variant)
    server = parts["server"].facts if "server" in parts else {"serve": {}}
    serve = server["serve"]
    facts = {
        "parts": {k: parts[k].identity for k in ("model", "adapter", "api") if k in parts},
        "epoch": server.get("epoch"),
        "formats": [serve.get("dtype"), serve.get("max_model_len")],
        "engine": {
            name: value
            for name, value in serve.get("engine", {}).items()
            if name.removeprefix("no-").partition(".")[0] not in _SCHEDULING
        },
        "prompt": prepared.style_of(variant),
        "sampling": variant.sampling.model_dump(mode="json") if variant.sampling else None,
    }
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()


def _trained_adapters(prepared: Prepared, variant: VariantConfig) -> list[str]:
    """The folders of the adapters that the run trains for a variant."""
    graph = prepared.graph
    served = [each for part, each in graph.served(variant).items() if part != "beside"]
    inputs = (each for artifact in served for each in artifact.with_inputs())
    trained = (each for each in inputs if each.facts.get("made") == "adapter")
    return list(dict.fromkeys(graph.place(each) for each in trained))


def unquantized(variant: VariantConfig, experiment: Experiment) -> str | None:
    """The variant that differs from a quantized one only in quantization, or None."""
    if variant.quantize is None:
        return None

    def rest(each: VariantConfig) -> VariantConfig:
        return each.model_copy(update={"name": "", "quantize": None, "serve": None})

    same = (
        v
        for v in experiment.variants
        if v.quantize is None
        and rest(v) == rest(variant)
        and is_same_server(experiment.serve_of(v), experiment.serve_of(variant))
    )
    return next((v.name for v in same), None)


def kind(variant: VariantConfig) -> Kind:
    """The kind of a variant."""
    if variant.url:
        return "url"
    if variant.quantize:
        return "quantized"
    if variant.adapter:
        return "adapter"
    return "merged" if variant.merge or variant.is_student else "model"


def describe(variant: VariantConfig) -> str:
    """A variant in a few words, such as "base + merged adapter, int8"."""
    if variant.url:
        return f"{variant.model} at {', '.join(map(shown_url, variant.urls))}"
    parts = [setting_word("model", variant.model) if variant.model else "base"]
    if variant.adapter:
        parts.append("+ LoRA adapter")
    if variant.prune:
        parts.append(f"less {variant.prune:.0%} of its layers, healed")
    if variant.distil:
        parts.append(f"taught by {variant.distil}")
    if variant.merge:
        parts.append("+ merged adapter")
    if variant.quantize:
        how = f" {variant.quantize.algorithm}" if variant.quantize.calibrated else ""
        parts.append(f", {variant.quantize.method}{how}")
    if variant.sampling is not None and variant.sampling.max_tokens is not None:
        parts.append(f", at most {variant.sampling.max_tokens} tokens an answer")
    if variant.sampling is not None and variant.sampling.stop:
        parts.append(f", stopped at {', '.join(map(repr, variant.sampling.stop))}")
    return " ".join([*parts, *_own_settings(variant)]).replace(" ,", ",")


def _own_settings(variant: VariantConfig) -> list[str]:
    """What a variant has otherwise than the sections finetune and serve."""
    parts = []
    if variant.finetune is not None and (own := variant.finetune.model_dump(mode="json")):
        parts.append(f", trained with {_listed(own)}")
    if variant.serve is not None:
        served = variant.serve.model_dump(mode="json")
        options = served.pop("engine", {})
        if served or options:
            parts.append(f", served with {_listed(served | options)}")
    return parts


def _listed(settings: Mapping[str, object]) -> str:
    return " ".join(f"{key}={setting_word(key, value)}" for key, value in settings.items())
