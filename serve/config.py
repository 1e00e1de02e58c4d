"""The section `serve` of `experiment.yaml`: how vLLM starts, and what a variant has otherwise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from foundation.path_fields import PathField
from foundation.secrets import check_variable, looks_like_key, names_a_secret
from foundation.section import Differences, Section
from foundation.units import Bytes, Count, Seconds, Share
from serve.ports import HOST, is_loopback

Option = Annotated[str, PathField(or_name=True, dotted=True)]
"""A vLLM option's value: a path if it begins with "~" or names a file beside the experiment."""


class ServerSettings(Section):
    """The settings of one server, which may differ by variant.

    `kv_cache` is for CPUs; on a GPU `gpu_memory_utilization` sets the size of the KV cache.
    `replicas`: so many servers, each of which serves the variant. `router`: who divides requests
    among them, the load generator in turns or the program vllm-router. `tensor_parallel` and
    `pipeline_parallel` divide a model among workers, `data_parallel` copies it within a server.
    `executor` starts the workers: processes on this machine, or Ray; "auto" leaves it to vLLM.
    `engine`: further vLLM options by their long names (`{max-num-seqs: 64}`), checked against
    vLLM's own parser. A mapping becomes JSON; null leaves an option to vLLM.
    """

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: Count | None = None
    enforce_eager: bool = False
    kv_cache: Bytes = 1 << 30
    gpu_memory_utilization: Share = 0.9
    tensor_parallel: int = Field(default=1, ge=1)
    pipeline_parallel: int = Field(default=1, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    executor: Literal["auto", "mp", "ray"] = "auto"
    replicas: int = Field(default=1, ge=1)
    router: Literal["round-robin", "vllm-router"] = "round-robin"
    engine: dict[str, Option | int | float | bool | None] = Field(default_factory=dict)

    @field_validator("engine", mode="before")
    @classmethod
    def _mappings_as_json(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {
            name: json.dumps(option) if isinstance(option, Mapping) else option
            for name, option in value.items()
        }

    @field_validator("engine")
    @classmethod
    def _each_option_once(cls, value: dict[str, Any]) -> dict[str, Any]:
        names = Counter(map(_switch, value))
        if twice := next((key for key in value if names[_switch(key)] > 1), None):
            raise ValueError(f"{twice}: stands there twice, in two spellings")
        return value

    @field_validator("engine")
    @classmethod
    def _no_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, option in _texts("", value):
            if looks_like_key(option) or names_a_secret(name):
                raise ValueError(
                    f"{name}: everybody on the machine can read a command line; "
                    "export the key instead (HF_TOKEN)"
                )
        return value


class VariantServe(Differences, ServerSettings):
    """The key `serve` of a variant: what its server has otherwise than the section `serve`."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "device": "all variants are compared on one device; write it under serve",
        "residency": "it says how all servers share the machine; write it under serve",
        "memory": "it is what all servers have together; write it under serve",
        "ports": "all servers take theirs from one range; write it under serve",
        "host": "all servers listen on one address; write it under serve",
        "api_key_env": "all servers have one key then; write it under serve",
        "start_timeout": "it changes no server; write the longest one under serve",
        "trust_remote_code": "whom to trust is no setting to compare; write it under serve",
        "engine_record": "it slows a server a little, so all have it or none; write it under serve",
    }


class ServeConfig(ServerSettings):
    """How vLLM servers are started.

    `device`: "auto" is what the installed vLLM was built for.
    `residency`: "resident" keeps every server up, so that blocks can alternate.
    "sleep" keeps one server awake and the others in vLLM's sleep mode, so that blocks alternate
    too (accelerators only). "turns" starts one server at a time. "auto" is the first of these
    that `memory` allows.
    `memory`: bytes for all servers (default: free memory here, or the accelerator's size).
    `trust_remote_code`: vLLM may run Python code that comes with a model.
    `ports`: "FIRST-LAST" (default: any free port).
    `host`: the IPv4 address that servers listen on; another than this machine's own needs
    `api_key_env`, the environment variable with the key that every request must carry.
    `engine_record`: each server writes a line for each request and each step of its engine into
    the run's `engine/`.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    residency: Literal["auto", "resident", "sleep", "turns"] = "auto"
    memory: Bytes | None = None
    start_timeout: Seconds = 600.0
    trust_remote_code: bool = False
    ports: str | None = Field(default=None, pattern=r"^\d+-\d+$")
    engine_record: bool = True
    host: str = HOST
    api_key_env: str | None = None

    @model_validator(mode="after")
    def _keyed_beyond_this_machine(self) -> ServeConfig:
        if not is_loopback(self.host) and self.api_key_env is None:
            raise ValueError(
                f"host: other machines reach {self.host}; write api_key_env, the environment "
                "variable with the key that requests must carry"
            )
        return self

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            return str(IPv4Address(value))
        except ValueError:
            raise ValueError(
                f"{value!r} is no IPv4 address; write 0.0.0.0 for every address of this machine"
            ) from None

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        return None if value is None else check_variable(value)

    @property
    def is_routed(self) -> bool:
        """Whether a program divides requests among replicas."""
        return self.router == "vllm-router" and self.replicas > 1

    @property
    def workers(self) -> int:
        """The workers of one server that divide its model."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def accelerators(self) -> int:
        """The accelerators of one server."""
        return self.workers * self.data_parallel

    def of_variant(self, own: VariantServe | None) -> ServeConfig:
        """The section with a variant's own settings in place of its.

        A whole option of `engine` replaces its dotted parts too. Null takes an option's value,
        and the name stays, to be checked.
        """
        if own is None:
            return self
        names = set(map(_switch, own.engine))
        engine = {
            key: value
            for key, value in self.engine.items()
            if names.isdisjoint({_switch(key), _switch(key).partition(".")[0]})
        }
        settings = {key: getattr(own, key) for key in own.model_fields_set - {"engine"}}
        return self.model_copy(update={**settings, "engine": engine | own.engine})

    @property
    def options(self) -> dict[str, str | int | float | bool]:
        """The options of `engine` that have a value, by their names with dashes."""
        return {option_name(key): value for key, value in self.engine.items() if value is not None}


def option_name(key: str) -> str:
    """The option's name with dashes up to the first dot (`compilation-config.max_autotune`)."""
    name, dot, rest = key.removeprefix("--").partition(".")
    return name.replace("_", "-") + dot + rest


def _switch(key: str) -> str:
    """The option that a key sets: `no-enforce-eager` sets `enforce-eager`."""
    return option_name(key).removeprefix("no-")


def _texts(name: str, value: object) -> Iterator[tuple[str, str]]:
    """The texts within an option's value, which may be JSON, each with its dotted name."""
    if isinstance(value, str):
        yield name, value
        if value.lstrip().startswith(("{", "[")):
            with suppress(ValueError, RecursionError):
                yield from _texts(name, json.loads(value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(f"{name}.{key}".lstrip("."), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(name, inner)
