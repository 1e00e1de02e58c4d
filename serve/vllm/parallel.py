"""How vLLM divides a model among workers, and who starts them."""

from __future__ import annotations

import ast

from foundation.errors import BadInput
from foundation.installed import assigned, source
from serve.config import ServeConfig
from serve.device import Device


def parallel_options(config: ServeConfig) -> list[str]:
    """vLLM's options for the workers of a server; none for one worker."""
    sizes = {
        "tensor": config.tensor_parallel,
        "pipeline": config.pipeline_parallel,
        "data": config.data_parallel,
    }
    options = [f"--{name}-parallel-size={size}" for name, size in sizes.items() if size > 1]
    if config.executor != "auto":
        options.append(f"--distributed-executor-backend={config.executor}")
        if config.data_parallel > 1:
            options.append(f"--data-parallel-backend={config.executor}")
    return options


def check_executor(config: ServeConfig, device: Device) -> None:
    """Raises BadInput for Ray where the installed vLLM's CPU backend has none, as in 0.32.

    Ray places workers by a resource, which the backend names in `ray_device_key`.
    """
    if config.executor != "ray" or device.kind != "cpu":
        return
    tree = source("vllm", "platforms/cpu.py")
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)] if tree else []
    if classes and not any(assigned(each, "ray_device_key") for each in classes):
        raise BadInput(
            "serve.executor: the installed vLLM does not run on Ray with its CPU backend; "
            "write mp, or serve on accelerators"
        )
