"""From the section `serve` to vLLM's command line and environment."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.models.model import ModelRef
from foundation.path_fields import there_is
from serve.config import ServeConfig
from serve.device import Device
from serve.variant import ServedVariant
from serve.vllm import sleep
from serve.vllm.lora import max_lora_rank
from serve.vllm.options import ask_parser
from serve.vllm.supported_models import other_plugins, quantization_formats

# Options that have a field of their own in the section, and options that are this program's to set.
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
    "model", "served-model-name", "host", "uds", "api-key", "config", "headless", "api-server-count",
    "enable-lora", "lora-modules", "max-lora-rank", "max-loras", "enable-per-request-metrics", "enable-sleep-mode",
}  # fmt: skip


def command_line(
    model: ModelRef,
    variants: Sequence[ServedVariant],
    ranks: Mapping[str, int],
    config: ServeConfig,
    device: Device,
) -> tuple[str, ...]:
    """vLLM's arguments for a server of these variants of one model, all without an adapter or all with one; `ranks` by variant.

    Host and port come when the server starts. The flags are the same for every server but for what an adapter needs.
    """
    line = [f"--model={model.path.absolute()}", *_names(variants), f"--dtype={config.dtype}"]
    if any(model.path.glob("consolidated*.safetensors")):
        line.append(
            "--load-format=safetensors"
        )  # vLLM would take these for a model of Mistral's own form
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
    adapters = [v for v in variants if v.adapter is not None]
    if adapters:
        line += ["--enable-lora", f"--max-loras={len(adapters)}"]
        line.append(f"--max-lora-rank={max_lora_rank(max(ranks[v.name] for v in adapters))}")
        line += [
            "--lora-modules",
            *(json.dumps({"name": v.name, "path": str(v.adapter.absolute())}) for v in adapters),
        ]
    if config.residency == "sleep":
        line.append(sleep.OPTION)
    return (
        *line,
        "--enable-per-request-metrics",
        "--disable-uvicorn-access-log",
        *_engine_options(config.engine),
    )


def _names(variants: Sequence[ServedVariant]) -> list[str]:
    """The model names a server answers to. Beside adapters the bare base gets one that no variant can have."""
    if variants[0].adapter is not None:
        return [f"--served-model-name={variants[0].name}/base"]
    return ["--served-model-name", *(v.name for v in variants)]


def template_option(template: str | None, file: Path) -> list[str]:
    """The option that has a server render chats with this template, written to `file`; none for the model's own."""
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
    """A file or folder that lies here is still meant where the server works, in a folder of its own."""
    is_path = isinstance(value, str) and bool(set("/.") & set(value))
    return str(Path(value).absolute()) if is_path and there_is(Path(str(value))) else value


def _dashed(key: str) -> str:
    """vLLM takes underscores for dashes, up to the first dot (`compilation-config.max_autotune`)."""
    name, dot, rest = key.removeprefix("--").partition(".")
    return name.replace("_", "-") + dot + rest


def check_engine_options(config: ServeConfig, lines: Sequence[Sequence[str]]) -> None:
    """Hold `serve.engine` against the installed vLLM's own parser. Raises BadInput for a name or value it does not take."""
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
            meant = f" (did you mean {close[0].removeprefix('--')!r}?)" if close else ""
            raise BadInput(f"serve.engine.{key}: vLLM {answer.version} has no such option{meant}")
        if value is False and f"--no-{name.removeprefix('--')}" not in answer.options:
            raise BadInput(
                f"serve.engine.{key}: can't be set to false in vLLM {answer.version}; leave it out"
            )
    if problem := next(filter(None, answer.errors), None):
        raise BadInput(f"serve.engine: vLLM {answer.version} refuses it: {problem}")


def check_installed() -> None:
    """Raises BadInput where there is no vLLM to serve with."""
    if importlib.util.find_spec("vllm") is None:
        raise BadInput(
            "vLLM is not installed; pip install 'tunedyno[cpu]' or 'tunedyno[cuda]', or use variants with a url"
        )


def check_checkpoint(variant: str, model: ModelRef) -> None:
    """Raises BadInput for a checkpoint whose quantization the installed vLLM does not know, or needs a plugin for."""
    if not (model.path / "config.json").is_file():
        return
    about = model.config()
    quantization = about.get("quantization_config", about.get("compression_config"))
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method is None:
        return
    if method == "bitsandbytes" and not serves_bitsandbytes():
        raise BadInput(
            f"variants.{variant}: a bitsandbytes checkpoint is served through vllm-bnb-plugin, which is not installed; "
            "pip install --no-deps vllm-bnb-plugin"
        )
    name = str(method).lower().replace("compressed_tensors", "compressed-tensors")
    formats = quantization_formats()
    if formats and name not in formats | {"bitsandbytes"} and not other_plugins():
        raise BadInput(
            f"variants.{variant}: {model.path}/config.json: quant_method: the installed vLLM knows no format {method!r}; "
            "name the unquantized model, and write quantize for a format of it"
        )


def serves_bitsandbytes() -> bool:
    """Whether the installed vLLM loads bitsandbytes checkpoints: by itself, as its older releases do, or through its plugin."""
    if importlib.util.find_spec("vllm_bnb_plugin") is not None:
        return True
    vllm = importlib.util.find_spec("vllm")
    folders = (vllm.submodule_search_locations if vllm else None) or []
    return any(
        (Path(folder) / "model_executor/layers/quantization/bitsandbytes.py").is_file()
        for folder in folders
    )


def environment(api_key: str) -> dict[str, str]:
    """A server's: this process's own, nothing reported or fetched, and the API key, which a command line would show to all."""
    inherited = {
        key: value for key, value in os.environ.items() if key != "VLLM_CPU_KVCACHE_SPACE"
    }  # outvotes the command line
    return {
        **inherited,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DISABLE_LOG_LOGO": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_API_KEY": api_key,
    }
