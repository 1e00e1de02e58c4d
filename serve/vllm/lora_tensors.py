"""Whether vLLM loads every tensor of an adapter, and finds its module in the base.

vLLM refuses names that it can't parse only when it loads them (`vllm/lora/utils.py`). It silently
ignores tensors of modules that its model lacks: a run would measure the base as the adapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.models.lora import PREFIX, WEIGHTS, check_settings, is_targeted, of_module
from foundation.models.model import ModelRef
from foundation.models.tokenizer import new_tokens
from foundation.models.weights import Shapes, shapes_of
from serve.vllm.supported_models import AdapterSupport, adapter_support

MERGE = "write merge instead of adapter"
_SAVE_AGAIN = "save the adapter again with PEFT's save_pretrained"
_OTHER_MODEL = "it was trained on another model"
_EMBEDDINGS = ("embed_tokens", "lm_head")
_MATRIX = re.compile(
    r"(?P<module>.+)\.(lora_(?P<linear>[AB])\.weight|lora_embedding_(?P<embedding>[AB]))"
)
_UNTOUCHED = re.compile(r".+\.(embed_tokens|lm_head)\.base_layer\.weight")
# Settings that exclude some modules although `target_modules` matches them.
_NARROWER = (
    "layers_to_transform",
    "layers_pattern",
    "exclude_modules",
    "modules_to_save",
    "target_parameters",
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Pair:
    """The shapes of a module's two matrices: A (rank, in), B (out, rank); None if missing."""

    a: Shape | None = None
    b: Shape | None = None


def check_adapter_file(
    variant: str, adapter: Path, config: Mapping[str, Any], base: ModelRef
) -> None:
    """Raises BadInput if vLLM would refuse the adapter's tensors or ignore some of them.

    `config`: the parsed `adapter_config.json`. The tensors are compared with the base's only if
    the base's folder exists.
    """
    check_settings(adapter / "adapter_config.json", config)
    file = adapter / WEIGHTS
    shapes = shapes_of(file)
    problem = next(_problems(config, shapes), None)
    if problem is None and base.path.is_dir():
        problem = next(_misfits(config, _pairs(shapes), base), None) or _tokens(adapter, base)
    if problem:
        raise BadInput(f"variants.{variant}.adapter: {file}: {problem}")


def check_architecture(variant: str, base: ModelRef) -> None:
    """Raises BadInput if vLLM serves no adapter of the base's architecture."""
    if not (base.path / "config.json").is_file():
        return
    support = _support(base)
    if support is not None and not support.any:
        raise BadInput(
            f"variants.{variant}.adapter: vLLM serves no adapter of a {_architecture(base)}; "
            f"{MERGE}"
        )


def _problems(config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    """Problems of the file itself, whatever the base."""
    if not shapes:
        yield f"it holds no tensor; {_SAVE_AGAIN}"
    for name, shape in shapes.items():
        if 0 in shape:
            yield f"{name} is empty; {_SAVE_AGAIN}"
        if not _MATRIX.fullmatch(name) and not _UNTOUCHED.fullmatch(name):
            yield _unknown_tensor(name)
    for module, pair in _pairs(shapes).items():
        if pair.a is None or pair.b is None:
            yield f"{module} has only one of lora_A and lora_B; {_SAVE_AGAIN}"
        elif len(pair.a) != 2 or len(pair.b) != 2:
            yield f"the matrices of {module} have shapes {pair.a} and {pair.b}; {_SAVE_AGAIN}"
        else:
            rank = of_module(config.get("rank_pattern"), module, config.get("r"))
            if rank != pair.a[0] or rank != pair.b[1]:
                yield (
                    f"{module} has rank {pair.a[0]} and adapter_config.json says {rank} "
                    "(r, rank_pattern), which scales it wrongly; "
                    "put the adapter_config.json there that it was saved with"
                )


def _unknown_tensor(name: str) -> str:
    if re.search(r"\.lora_(embedding_)?[AB]\.", name):
        return (
            f"{name} is a name of PEFT's model in memory, which vLLM does not know; {_SAVE_AGAIN}"
        )
    if ".lora_magnitude_vector" in name:
        return f"vLLM can't serve it: it is a DoRA adapter; {MERGE}"
    module = name.removesuffix(".weight").rpartition(".")[2]
    if module in _EMBEDDINGS:
        return (
            f"vLLM can't serve it: it brings a whole {module} "
            f"(tokens were added, or it was trained); {MERGE}"
        )
    return f"vLLM can't serve it: {name} is no LoRA matrix; {MERGE}"


def _misfits(
    config: Mapping[str, Any], pairs: Mapping[str, _Pair], base: ModelRef
) -> Iterator[str]:
    """Conflicts with the base: modules it lacks or vLLM does not adapt, widths, missing modules."""
    shapes = base.shapes()
    modules = {_module(name) for name in shapes}
    settings = base.config()
    tails = {_tail(module) for module in modules} if "text_config" in settings else set()
    support = _support(base)
    for module, pair in pairs.items():
        last = module.rpartition(".")[2]
        if last in _EMBEDDINGS:
            if support is not None and last not in support.embeddings:
                yield f"vLLM does not adapt {last} of a {_architecture(base)}; {MERGE}"
        elif ".experts" in module:
            continue
        elif "_orig_mod" in module:
            yield (
                f"{module}: it was saved from a compiled model, and vLLM would leave it out; "
                "save that of model._orig_mod"
            )
        elif module not in modules and _tail(module) not in tails:
            yield f"it adapts {module}, which {base.id} does not have: {_OTHER_MODEL}"
        elif (
            (weight := shapes.get(f"{module}.weight"))
            and "quantization_config" not in settings
            and len(weight) == 2
        ):
            assert pair.a is not None and pair.b is not None
            if (pair.b[0], pair.a[1]) != weight:
                ours, theirs = f"{pair.b[0]} x {pair.a[1]}", f"{weight[0]} x {weight[1]}"
                yield f"{module} is {ours} there and {theirs} in {base.id}: {_OTHER_MODEL}"
    if missing := next(_left_out(config, pairs, base), None):
        yield (
            f"adapter_config.json targets {missing}, and the file has nothing for it; {_SAVE_AGAIN}"
        )


def _left_out(
    config: Mapping[str, Any], pairs: Mapping[str, _Pair], base: ModelRef
) -> Iterator[str]:
    """Modules of the base that the adapter targets but its file lacks."""
    targets = config.get("target_modules")
    if (
        not isinstance(targets, str | list)
        or any(config.get(key) for key in _NARROWER)
        or "text_config" in base.config()
    ):
        return
    layers = base.config().get("num_hidden_layers")
    for name, shape in base.shapes().items():
        module = name.removesuffix(".weight")
        if (
            not name.endswith(".weight")
            or len(shape) != 2
            or module in pairs
            or ".experts" in module
        ):
            continue
        layer = re.search(r"\.(\d+)\.", module)
        if layer and isinstance(layers, int) and int(layer[1]) >= layers:
            continue  # a draft model's layer, which no adapter targets
        if is_targeted(targets, module):
            yield module


def _tokens(adapter: Path, base: ModelRef) -> str | None:
    if not (added := list(new_tokens(adapter, base.path))):
        return None
    listed = ", ".join(added[:3]) + (" ..." if len(added) > 3 else "")
    return (
        f"its tokenizer has tokens that {base.id} lacks ({listed}), "
        f"and vLLM takes the base's tokenizer; {MERGE}"
    )


def _pairs(shapes: Shapes) -> dict[str, _Pair]:
    """The matrices by module, whose names lose PEFT's prefix."""
    pairs: dict[str, _Pair] = {}
    for name, shape in shapes.items():
        if (parsed := _MATRIX.fullmatch(name)) is None:
            continue
        module, part = (
            parsed["module"].removeprefix(PREFIX),
            parsed["linear"] or parsed["embedding"],
        )
        pair = pairs.get(module, _Pair())
        pairs[module] = _Pair(shape, pair.b) if part == "A" else _Pair(pair.a, shape)
    return pairs


def _module(tensor: str) -> str:
    """A tensor's module: its name before `.weight`, for quantized weights and scales too."""
    name, weight, _ = tensor.partition(".weight")
    return name if weight else tensor.rpartition(".")[0]


def _tail(module: str) -> str:
    """A module's name from the layer's number on: composite models differ in files and in vLLM."""
    layer = re.search(r"\.\d+\.", module)
    return module[layer.start() :] if layer else module


def _architecture(base: ModelRef) -> str:
    names = base.config().get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _support(base: ModelRef) -> AdapterSupport | None:
    return adapter_support(_architecture(base))
