"""The linear layers of a checkpoint: which of them are quantized, and in groups of what size."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.section import nearest
from quantize.config import QuantizeConfig
from quantize.methods import METHODS

HEAD = "lm_head"
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""The layers that vLLM multiplies as one matrix, by its name there: all are quantized, or none."""

_EMBEDDINGS = ("embed", "wte", "wpe")
_PLAIN = re.compile(
    r"(model\.layers\.\d+\.(self_attn\.(q|k|v|o|qkv)|mlp\.(gate|up|down|gate_up))_proj|lm_head)"
)
"""The matrices of models built like Llama, as their files name them: each is a linear layer."""


def count_weights(model: ModelRef) -> int:
    """How many numbers the checkpoint holds; tied embeddings count once."""
    return sum(math.prod(shape) for shape in model.shapes().values())


def linear_inputs(model: ModelRef) -> dict[str, int]:
    """The input width of every linear layer, by its full name.

    An output head that is tied to the embeddings is not among them.
    """
    widths = {
        name.removesuffix(".weight"): shape[1]
        for name, shape in model.shapes().items()
        if name.endswith(".weight") and len(shape) == 2
    }
    return {
        name: width
        for name, width in widths.items()
        if not name.rpartition(".")[2].startswith(_EMBEDDINGS)
    }


def kept_layers(model: ModelRef, keep: Sequence[str]) -> list[str]:
    """Full names of the layers that stay in full precision.

    Raises BadInput for an entry that names no layer, for a tied head that would be quantized, and
    for a matrix of vLLM that would be quantized in part.
    """
    layers = linear_inputs(model)
    tied = HEAD not in layers or bool(model.config().get("tie_word_embeddings"))
    kept: dict[str, None] = {}
    for entry in keep:
        matches = [name for name in layers if _names(entry, name)]
        if not matches and entry != HEAD:
            parts = {part for name in layers for part in name.split(".") if not part.isdigit()}
            raise BadInput(
                f"quantize.keep: {model.id} has no linear layer {entry!r}{nearest(entry, parts)}"
            )
        kept.update(dict.fromkeys(matches or [HEAD]))
    if tied and HEAD not in kept:
        raise BadInput(
            f"quantize.keep: the output head of {model.id} is tied to its embeddings, "
            f"which stay as they are; add {HEAD}"
        )
    _check_fused(layers, kept)
    return list(kept)


def quantized_layers(model: ModelRef, kept: Collection[str]) -> set[str]:
    """Full names of the linear layers that are not `kept`.

    A server takes every linear layer that is not kept for quantized. Layers with unusual names are
    therefore compared with the model that transformers builds from the config: GPT-2's Conv1D and
    the router of a mixture are matrices, but no linear layers. Raises BadInput where the two
    differ.
    """
    named = {name for name in linear_inputs(model) if name not in kept}
    if all(_PLAIN.fullmatch(name) for name in named):
        return named
    return _linear_modules(model, named, kept)


def _linear_modules(model: ModelRef, named: set[str], kept: Collection[str]) -> set[str]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model.path))
    modules, kind = dict(built.named_modules()), f"{type(built).__name__} of transformers"
    linear = {
        name
        for name, module in modules.items()
        if isinstance(module, torch.nn.Linear) and name not in kept
    }
    if missing := sorted(linear - named):
        raise BadInput(
            f"{model.id}: its weight files have no {missing[0]}.weight, a linear layer of {kind}; "
            "load it with transformers and save it again"
        )
    embeddings = {name for name, each in modules.items() if isinstance(each, torch.nn.Embedding)}
    if other := sorted(named - linear - embeddings):
        raise BadInput(
            f"quantize.keep: {other[0]} of {model.id} is no linear layer of {kind}, "
            "and can't be quantized here; add it"
        )
    return linear


def check_widths(model: ModelRef, config: QuantizeConfig) -> int | None:
    """The group size, None for a method without groups.

    Raises BadInput where the method does not fit the model's widths.
    """
    widths = _quantized_widths(model, config.keep)
    if not METHODS[config.method].group_sizes:
        return None
    return choose_group_size(widths, config)


def choose_group_size(widths: Collection[int], config: QuantizeConfig) -> int:
    """The configured group size, or the method's first that divides every input width: 64 for 576.

    Raises BadInput where the configured one, or none of the method's, divides them all.
    """
    sizes = METHODS[config.method].group_sizes
    fitting = [size for size in sizes if all(width % size == 0 for width in widths)]
    listed = ", ".join(map(str, sorted(widths)))
    size = config.group_size
    if size is not None:
        if size < 1 or any(width % size for width in widths):
            write = f"; write {' or '.join(map(str, fitting))}" if fitting else ""
            raise BadInput(
                f"quantize.group_size: {size} does not divide "
                f"the model's input widths ({listed}){write}"
            )
        return size
    if not fitting:
        raise BadInput(
            f"quantize.method: {config.method} needs input widths that {sizes[-1]} divides; "
            f"this model's are {listed}"
        )
    return fitting[0]


def _quantized_widths(model: ModelRef, keep: Sequence[str]) -> set[int]:
    """The input widths of the quantized layers.

    Raises BadInput as `kept_layers` does, and where every layer is kept.
    """
    kept = set(kept_layers(model, keep))
    widths = {width for name, width in linear_inputs(model).items() if name not in kept}
    if not widths:
        raise BadInput("quantize.keep: every linear layer is kept, so nothing would be quantized")
    return widths


def _names(entry: str, layer: str) -> bool:
    """Whether an entry of `keep` matches a layer: a pattern after "re:", or a part of its path."""
    if entry.startswith("re:"):
        return re.match(entry.removeprefix("re:"), layer) is not None
    return f".{entry}." in f".{layer}."


def _check_fused(layers: Mapping[str, int], kept: Collection[str]) -> None:
    for name in kept:
        parent, _, last = name.rpartition(".")
        for group in FUSED.values():
            others = [f"{parent}.{part}" for part in group] if last in group else []
            if missing := [other for other in others if other in layers and other not in kept]:
                raise BadInput(
                    f"quantize.keep: {name} is kept and {missing[0]} is not, "
                    f"but vLLM multiplies them as one matrix; keep {', '.join(group)} together"
                )
