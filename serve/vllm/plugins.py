"""Which of the installed vLLM plugins a server loads.

Each of a server's three processes loads all of them. vllm-bnb-plugin imports bitsandbytes, which
takes as much CPU time as vLLM's own import. So only servers of such weights load it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import EntryPoint, distributions

from foundation.models.model import ModelRef
from serve.vllm import engine_record

VARIABLE = "VLLM_PLUGINS"
"""The names of the plugins to load, by commas; vLLM loads all without it."""
_GROUPS, _FOR_BITSANDBYTES = "vllm.", "vllm_bnb_plugin:"
_FORMAT = "bitsandbytes"


def plugin_variables(model: ModelRef, arguments: Sequence[str]) -> dict[str, str]:
    """The variable that spares a server of this model what it does not need.

    Empty if it needs all plugins, or if the user has chosen.
    """
    if VARIABLE in os.environ or is_in_bitsandbytes(model, arguments):
        return {}
    plugins = _installed()
    if not any(_is_for_bitsandbytes(plugin) for plugin in plugins):
        return {}
    return {VARIABLE: ",".join(other_names(plugins))}


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """The plugins of all vLLM's groups, which differ from version to version."""
    entries = (entry for each in distributions() for entry in each.entry_points)
    return tuple(entry for entry in entries if entry.group.startswith(_GROUPS))


def is_in_bitsandbytes(model: ModelRef, arguments: Sequence[str]) -> bool:
    """Whether a server's weights are in a format of bitsandbytes, as stored or as loaded."""
    if any(_FORMAT in argument for argument in arguments if argument.startswith("--")):
        return True
    if not (model.path / "config.json").is_file():
        return False
    quantization = model.config().get("quantization_config")
    return isinstance(quantization, dict) and quantization.get("quant_method") == _FORMAT


def other_names(plugins: Iterable[EntryPoint]) -> list[str]:
    """The names of plugins that are not for bitsandbytes.

    `engine_record.environment` adds our own where a server needs it.
    """
    others = {plugin.name for plugin in plugins if not _is_for_bitsandbytes(plugin)}
    return sorted(others - {engine_record.PLUGIN})


def _is_for_bitsandbytes(plugin: EntryPoint) -> bool:
    return plugin.value.startswith(_FOR_BITSANDBYTES)
