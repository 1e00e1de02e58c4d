"""Turns the section `serve` into vLLM's command line and environment."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.installed import source
from foundation.models.model import ModelRef
from serve.config import ServeConfig
from serve.device import Device
from serve.variant import ServedVariant
from serve.vllm import engine_record, preloads, sleep
from serve.vllm.engine_options import engine_options
from serve.vllm.lora import max_lora_rank
from serve.vllm.parallel import parallel_options
from serve.vllm.supported_models import other_plugins, quantization_formats


def command_line(
    model: ModelRef,
    variants: Sequence[ServedVariant],
    ranks: Mapping[str, int],
    config: ServeConfig,
    device: Device,
) -> tuple[str, ...]:
    """vLLM's arguments for a server of variants of one model, without host and port.

    Either all variants have an adapter or none has. `ranks`: adapter ranks by variant.
    Servers of one config differ only by what an adapter needs.
    """
    line = [f"--model={model.path.absolute()}", *_names(variants), f"--dtype={config.dtype}"]
    # vLLM would read these files as a model in Mistral's own format.
    if any(model.path.glob("consolidated*.safetensors")):
        line.append("--load-format=safetensors")
    if config.max_model_len is not None:
        line.append(f"--max-model-len={config.max_model_len}")
    if config.enforce_eager:
        line.append("--enforce-eager")
    if config.trust_remote_code:
        line.append("--trust-remote-code")
    if device.kind == "cpu":
        line.append(f"--kv-cache-memory-bytes={config.kv_cache}")
    else:
        line.append(f"--gpu-memory-utilization={config.gpu_memory_utilization}")
    line += parallel_options(config)
    line += _lora_options({v.name: v.adapter for v in variants if v.adapter is not None}, ranks)
    if config.residency == "sleep":
        line.append(sleep.OPTION)
    return (
        *line,
        "--enable-per-request-metrics",
        "--disable-uvicorn-access-log",
        *engine_options(config.options),
    )


def _lora_options(adapters: Mapping[str, Path], ranks: Mapping[str, int]) -> list[str]:
    if not adapters:
        return []
    modules = [
        json.dumps({"name": name, "path": str(adapter.absolute())})
        for name, adapter in adapters.items()
    ]
    return [
        "--enable-lora",
        f"--max-loras={len(adapters)}",
        f"--max-lora-rank={max_lora_rank(max(ranks[name] for name in adapters))}",
        "--lora-modules",
        *modules,
    ]


def _names(variants: Sequence[ServedVariant]) -> list[str]:
    """A server's model names. With adapters, the base gets a name that no variant can have."""
    if variants[0].adapter is not None:
        return [f"--served-model-name={variants[0].name}/base"]
    return ["--served-model-name", *(v.name for v in variants)]


def template_option(template: str | None, file: Path) -> list[str]:
    """The option for this chat template, which goes to `file`; none for the model's own."""
    if template is None:
        return []
    write_whole(file, template)
    return [f"--chat-template={file.absolute()}"]


def server_module() -> str:
    """The installed vLLM's module that serves; vLLM 0.32 moved it, and warns at the old place."""
    moved = source("vllm", "entrypoints/launchers/api_server/entry.py")
    here = "launchers.api_server.entry" if moved is not None else "openai.api_server"
    return f"vllm.entrypoints.{here}"


def check_installed() -> None:
    """Raises BadInput if vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise BadInput(
            "vLLM is not installed; pip install 'tunedyno[cpu]' or 'tunedyno[cuda]', "
            "or use variants with a url"
        )


def check_checkpoint(variant: str, model: ModelRef) -> None:
    """Raises BadInput if the installed vLLM, with its plugins, lacks the checkpoint's format."""
    if not (model.path / "config.json").is_file():
        return
    settings = model.config()
    quantization = settings.get("quantization_config", settings.get("compression_config"))
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method is None:
        return
    if method == "bitsandbytes" and not serves_bitsandbytes():
        raise BadInput(
            f"variants.{variant}: a bitsandbytes checkpoint is served through vllm-bnb-plugin, "
            "which is not installed; pip install --no-deps vllm-bnb-plugin"
        )
    name = str(method).lower().replace("compressed_tensors", "compressed-tensors")
    formats = quantization_formats()
    if formats and name not in formats | {"bitsandbytes"} and not other_plugins():
        raise BadInput(
            f"variants.{variant}: {model.path}/config.json: quant_method: "
            f"the installed vLLM knows no format {method!r}; "
            "name the unquantized model, and write quantize for a format of it"
        )


def serves_bitsandbytes() -> bool:
    """Whether the installed vLLM loads bitsandbytes checkpoints.

    Its older releases do so themselves, newer ones need a plugin.
    """
    if importlib.util.find_spec("vllm_bnb_plugin") is not None:
        return True
    vllm = importlib.util.find_spec("vllm")
    folders = (vllm.submodule_search_locations if vllm else None) or []
    return any(
        (Path(folder) / "model_executor/layers/quantization/bitsandbytes.py").is_file()
        for folder in folders
    )


def device_variables(device: Device) -> dict[str, str]:
    """The environment variables that make servers fast on their device."""
    value = preloads.servers_preloads(device.kind)
    return {preloads.VARIABLE: value} if value else {}


def environment(api_key: str) -> dict[str, str]:
    """A server's environment: this process's, without usage reports and downloads.

    It carries the API key, since everybody on the machine can read a command line.
    """
    # The first would override the command line, the second names another server's file.
    theirs = {"VLLM_CPU_KVCACHE_SPACE", engine_record.VARIABLE}
    inherited = {key: value for key, value in os.environ.items() if key not in theirs}
    return {
        **inherited,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DISABLE_LOG_LOGO": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_API_KEY": api_key,
    }
