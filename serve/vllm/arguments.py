"""Turns the section `serve` into vLLM's command line and environment."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.installed import source
from foundation.models.model import ModelRef
from foundation.path_fields import path_exists
from serve.config import ServeConfig
from serve.device import Device
from serve.variant import ServedVariant
from serve.vllm import engine_record, preloads, sleep
from serve.vllm.lora import max_lora_rank
from serve.vllm.options import ask_parser
from serve.vllm.supported_models import other_plugins, quantization_formats

# Options with their own field in the section, and options that only this program sets.
_FIELDS = {
    "dtype": "dtype",
    "max-model-len": "max_model_len",
    "enforce-eager": "enforce_eager",
    "kv-cache-memory-bytes": "kv_cache",
    "gpu-memory-utilization": "gpu_memory_utilization",
    "tensor-parallel-size": "tensor_parallel",
    "port": "ports",
    "trust-remote-code": "trust_remote_code",
}
_OURS = {
    "model", "served-model-name", "host", "uds", "api-key", "config", "headless",
    "api-server-count", "enable-lora", "lora-modules", "max-lora-rank", "max-loras",
    "enable-per-request-metrics", "enable-sleep-mode", "enable-logging-iteration-details",
}  # fmt: skip


def command_line(
    model: ModelRef,
    variants: Sequence[ServedVariant],
    ranks: Mapping[str, int],
    config: ServeConfig,
    device: Device,
) -> tuple[str, ...]:
    """vLLM's arguments for a server of variants of one model, without host and port.

    Either all variants have an adapter or none has. `ranks`: adapter ranks by variant.
    Servers' flags differ only by what an adapter needs.
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
    if config.tensor_parallel > 1:
        line.append(f"--tensor-parallel-size={config.tensor_parallel}")
    line += _lora_options({v.name: v.adapter for v in variants if v.adapter is not None}, ranks)
    if config.residency == "sleep":
        line.append(sleep.OPTION)
    return (
        *line,
        "--enable-per-request-metrics",
        "--disable-uvicorn-access-log",
        *_engine_options(config.engine),
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


def _engine_options(engine: Mapping[str, str | int | float | bool]) -> list[str]:
    options = []
    for key, value in engine.items():
        name = _dashed(key)
        if isinstance(value, bool):
            options.append(f"--{name}" if value else f"--no-{name}")
        else:
            options.append(f"--{name}={_located(value)}")
    return options


def _located(value: str | int | float) -> str | int | float:
    """Makes the path of an existing file absolute: the server works in another folder."""
    if not isinstance(value, str) or not set("/.") & set(value):
        return value
    path = Path(value)
    return str(path.absolute()) if path_exists(path) else value


def _dashed(key: str) -> str:
    """The option's name with dashes up to the first dot (`compilation-config.max_autotune`)."""
    name, dot, rest = key.removeprefix("--").partition(".")
    return name.replace("_", "-") + dot + rest


def check_engine_options(config: ServeConfig, lines: Sequence[Sequence[str]]) -> None:
    """Check `serve.engine` with the installed vLLM's own parser.

    Raises BadInput for a name or value that the parser refuses.
    """
    for key in config.engine:
        if (name := _dashed(key).removeprefix("no-")) in _FIELDS:
            raise BadInput(f"serve.engine.{key}: write serve.{_FIELDS[name]} instead")
        if name in _OURS:
            raise BadInput(f"serve.engine.{key}: set by tunedyno for each server; leave it out")
    if not config.engine or not lines:
        return
    answer = ask_parser(tuple(map(tuple, lines)))
    for key, value in config.engine.items():
        name = f"--{_dashed(key).partition('.')[0]}"
        if name not in answer.options:
            close = difflib.get_close_matches(name, answer.options, n=1, cutoff=0.6)
            hint = f" (did you mean {close[0].removeprefix('--')!r}?)" if close else ""
            raise BadInput(f"serve.engine.{key}: vLLM {answer.version} has no such option{hint}")
        if value is False and f"--no-{name.removeprefix('--')}" not in answer.options:
            raise BadInput(
                f"serve.engine.{key}: can't be set to false in vLLM {answer.version}; leave it out"
            )
    if problem := next(filter(None, answer.errors), None):
        raise BadInput(f"serve.engine: vLLM {answer.version} refuses it: {problem}")


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
