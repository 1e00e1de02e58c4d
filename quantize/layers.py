"""The linear layers of a checkpoint, by the names and shapes of its weights: which of them are quantized, and in what groups."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.section import nearest
from quantize.config import QuantizeConfig

HEAD = "lm_head"
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""What vLLM multiplies as one matrix, and its name there: quantized alike or not at all."""

GROUP_SIZES = (128, 64, 32)
_NVFP4_GROUP = 16
_EMBEDDINGS = ("embed", "wte", "wpe")
_PLAIN = re.compile(
    r"(model\.layers\.\d+\.(self_attn\.(q|k|v|o|qkv)|mlp\.(gate|up|down|gate_up))_proj|lm_head)"
)
"""The matrices of Llama and the many models built like it, as their files name them: each is a linear layer."""


def count_weights(model: ModelRef) -> int:
    """How many numbers the checkpoint holds; tied embeddings count once."""
    return sum(math.prod(shape) for shape in model.shapes().values())


def linear_inputs(model: ModelRef) -> dict[str, int]:
    """The input width of every linear layer, by its full name. A head that is tied to the embeddings is not among them."""
    matrices = {
        name: shape
        for name, shape in model.shapes().items()
        if name.endswith(".weight") and len(shape) == 2
    }
    named = {name.removesuffix(".weight"): shape[1] for name, shape in matrices.items()}
    return {
        name: width
        for name, width in named.items()
        if not name.rpartition(".")[2].startswith(_EMBEDDINGS)
    }


def kept_layers(model: ModelRef, keep: Sequence[str]) -> list[str]:
    """Full names of the layers that stay in full precision.

    Raises BadInput for an entry that names no layer, for a tied head that would be quantized, and where a part of what vLLM
    multiplies as one matrix would be.
    """
    layers = linear_inputs(model)
    tied = HEAD not in layers or bool(model.config().get("tie_word_embeddings"))
    kept: dict[str, None] = {}
    for entry in keep:
        found = [name for name in layers if _names(entry, name)]
        if not found and entry != HEAD:
            parts = {part for name in layers for part in name.split(".") if not part.isdigit()}
            raise BadInput(
                f"quantize.keep: {model.id} has no linear layer {entry!r}{nearest(entry, parts)}"
            )
        kept.update(dict.fromkeys(found or [HEAD]))
    if tied and HEAD not in kept:
        raise BadInput(
            f"quantize.keep: the output head of {model.id} is tied to its embeddings, which stay as they are; add {HEAD}"
        )
    _check_fused(layers, kept)
    return list(kept)


def quantized_layers(model: ModelRef, kept: Collection[str]) -> set[str]:
    """Full names of the linear layers that are not `kept`. Raises BadInput where they are not those that a server looks for.

    That takes every linear layer for quantized that is not kept. Names of an unusual kind are held against the model that
    transformers builds from the config: the Conv1D of GPT-2 and the router of a mixture are matrices and no linear layers.
    """
    found = {name for name in linear_inputs(model) if name not in kept}
    if all(_PLAIN.fullmatch(name) for name in found):
        return found
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model.path))
    modules, called = dict(built.named_modules()), f"{type(built).__name__} of transformers"
    linear = {
        name
        for name, module in modules.items()
        if isinstance(module, torch.nn.Linear) and name not in kept
    }
    if missing := sorted(linear - found):
        raise BadInput(
            f"{model.id}: its weight files have no {missing[0]}.weight, a linear layer of {called}; load it with transformers "
            "and save it again"
        )
    if other := sorted(
        name for name in found - linear if not isinstance(modules.get(name), torch.nn.Embedding)
    ):
        raise BadInput(
            f"quantize.keep: {other[0]} of {model.id} is no linear layer of {called}, and can't be quantized here; add it"
        )
    return linear


def quantized_widths(model: ModelRef, keep: Sequence[str]) -> set[int]:
    """The input widths of the layers that are quantized. Raises BadInput as `kept_layers` does, and where none is left."""
    kept = set(kept_layers(model, keep))
    widths = {width for name, width in linear_inputs(model).items() if name not in kept}
    if not widths:
        raise BadInput("quantize.keep: every linear layer is kept, so nothing would be quantized")
    return widths


def check_widths(model: ModelRef, config: QuantizeConfig) -> int | None:
    """The group size, None where the method has none. Raises BadInput where the method does not fit the model's widths."""
    widths = quantized_widths(model, config.keep)
    if config.method == "w4a16":
        return choose_group_size(widths, config.group_size)
    if config.method == "nvfp4":
        if odd := [width for width in sorted(widths) if width % _NVFP4_GROUP]:
            raise BadInput(
                f"quantize.method: nvfp4 needs input widths that {_NVFP4_GROUP} divides; this model has {odd[0]}"
            )
        return _NVFP4_GROUP
    return None


def choose_group_size(widths: Collection[int], asked: int | None) -> int:
    """The largest usual size that divides every input width: 64 for 576. Raises BadInput where the asked one, or none, does."""
    fitting = [size for size in GROUP_SIZES if all(width % size == 0 for width in widths)]
    listed = ", ".join(map(str, sorted(widths)))
    if asked is not None:
        if asked < 1 or any(width % asked for width in widths):
            write = f"; write {' or '.join(map(str, fitting))}" if fitting else ""
            raise BadInput(
                f"quantize.group_size: {asked} does not divide the model's input widths ({listed}){write}"
            )
        return asked
    if not fitting:
        raise BadInput(
            f"quantize.method: w4a16 needs input widths that {GROUP_SIZES[-1]} divides; this model's are {listed}"
        )
    return fitting[0]


def _names(entry: str, layer: str) -> bool:
    """Whether an entry of `keep` means a layer: a regular expression after "re:", else the layer's name or a part of its path."""
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
                    f"quantize.keep: {name} is kept and {missing[0]} is not, but vLLM multiplies them as one matrix; "
                    f"keep {', '.join(group)} together"
                )
