"""The section `serve` of `experiment.yaml`: how vLLM is started. The same flags go to every variant's server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from foundation.path_fields import Place
from foundation.secrets import looks_like_key, names_a_secret
from foundation.section import Section
from foundation.units import Bytes, Count, Seconds, Share

Option = Annotated[str, Place(or_name=True, dotted=True)]
"""The value of one of vLLM's options: a path where it begins with "~", or where such a file lies beside the experiment."""


class ServeConfig(Section):
    """How vLLM servers are started.

    `device`: "auto" is what the installed vLLM was built for. `kv_cache` is the CPU's; a GPU's goes by `gpu_memory_utilization`.
    `residency`: "resident" keeps every server up, so that blocks can alternate; "sleep" keeps one awake and the others in vLLM's
    sleep mode, so that they alternate too (accelerators only); "turns" starts one at a time; "auto" is the first of these that
    `memory` allows (default: what is free here, or the size of the accelerator). `trust_remote_code` has vLLM run Python code
    that a model brings along. `ports` is "FIRST-LAST" (default: any free one). `engine` holds further vLLM options by their long
    names (`{max-num-seqs: 64}`), checked against vLLM's own parser.
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
    engine: dict[str, Option | int | float | bool] = Field(default_factory=dict)

    @field_validator("engine")
    @classmethod
    def _no_keys(
        cls, value: dict[str, str | int | float | bool]
    ) -> dict[str, str | int | float | bool]:
        for name, text in value.items():
            if isinstance(text, str) and (looks_like_key(text) or names_a_secret(name)):
                raise ValueError(
                    f"{name}: everybody on the machine can read a command line; export the key instead (HF_TOKEN)"
                )
        return value
