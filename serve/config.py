"""The section `serve` of `experiment.yaml`: how vLLM starts. All servers get its flags."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from foundation.path_fields import PathField
from foundation.secrets import looks_like_key, names_a_secret
from foundation.section import Section
from foundation.units import Bytes, Count, Seconds, Share

Option = Annotated[str, PathField(or_name=True, dotted=True)]
"""A vLLM option's value: a path if it begins with "~" or names a file beside the experiment."""


class ServeConfig(Section):
    """How vLLM servers are started.

    `device`: "auto" is what the installed vLLM was built for.
    `kv_cache` is for CPUs; on a GPU `gpu_memory_utilization` sets the size of the KV cache.
    `residency`: "resident" keeps every server up, so that blocks can alternate.
    "sleep" keeps one server awake and the others in vLLM's sleep mode, so that blocks alternate
    too (accelerators only). "turns" starts one server at a time. "auto" is the first of these
    that `memory` allows.
    `memory`: bytes for all servers (default: free memory here, or the accelerator's size).
    `trust_remote_code`: vLLM may run Python code that comes with a model.
    `ports`: "FIRST-LAST" (default: any free port).
    `engine_record`: each server writes a line for each request and each step of its engine into
    the run's `engine/`.
    `engine`: further vLLM options by their long names (`{max-num-seqs: 64}`), checked against
    vLLM's own parser.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: Count | None = None
    enforce_eager: bool = False
    kv_cache: Bytes = 1 << 30
    gpu_memory_utilization: Share = 0.9
    tensor_parallel: int = Field(default=1, ge=1)
    residency: Literal["auto", "resident", "sleep", "turns"] = "auto"
    memory: Bytes | None = None
    start_timeout: Seconds = 600.0
    trust_remote_code: bool = False
    ports: str | None = Field(default=None, pattern=r"^\d+-\d+$")
    engine_record: bool = True
    engine: dict[str, Option | int | float | bool] = Field(default_factory=dict)

    @field_validator("engine")
    @classmethod
    def _no_keys(
        cls, value: dict[str, str | int | float | bool]
    ) -> dict[str, str | int | float | bool]:
        for name, option in value.items():
            if isinstance(option, str) and (looks_like_key(option) or names_a_secret(name)):
                raise ValueError(
                    f"{name}: everybody on the machine can read a command line; "
                    "export the key instead (HF_TOKEN)"
                )
        return value
