"""Checks that a model folder is complete and that its files agree with its `config.json`.

transformers fills missing weights with random numbers and a warning, and loads an adapter that
lies in the folder. With several weight files, vLLM reads others than transformers. The checks
read headers only, and output heads that must equal the embeddings.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.files.json_object import object_if_there, read_object
from foundation.models.model import ModelRef
from foundation.models.weights import Shapes, headers_of, shapes_of

_LAYER = re.compile(r"(?P<list>.*?\b(?:layers|h|blocks))\.(?P<number>\d+)\.(?P<rest>.+)")
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_DRAFT = re.compile(r"nextn|mtp")
_INPUTS = re.compile(r"(.*\.)?(embed_tokens|wte|embed_in|word_embeddings)\.weight")
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_PLAIN = {
    "cohere",
    "gemma",
    "gemma2",
    "granite",
    "llama",
    "mistral",
    "olmo",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
}
"""Model types whose layers are all alike, and whose widths follow from a few settings."""
_SETTINGS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_BLOCK = 1 << 20
_AGAIN = "download or copy the model again"
_ITS_OWN = "put the config.json there that the weights were saved with"


def check_checkpoint(model: ModelRef) -> None:
    """Raises BadInput, with file and remedy, for a folder that contradicts itself."""
    _check_settings(model.path)
    check_leftovers(model.path)
    _check_index(model.path)
    shapes = model.shapes()
    if problem := next(_contradictions(model, shapes), None):
        raise BadInput(f"{model.path}: {problem}")


def check_leftovers(folder: Path) -> None:
    """Raises BadInput for files that transformers or vLLM would load besides the weights."""
    if (folder / "adapter_config.json").is_file():
        raise BadInput(
            f"{folder}: holds adapter_config.json beside the model, and transformers would load "
            "that adapter into it; move the adapter's files to a folder of their own, "
            "and name that as adapter or merge"
        )
    if (folder / "model.safetensors.index.json").is_file():
        return
    whole = folder / "model.safetensors"
    others = [file.name for file in sorted(folder.glob("*.safetensors")) if file != whole]
    if whole.is_file() and others:
        raise BadInput(
            f"{folder}: holds {others[0]} beside model.safetensors, "
            "and vLLM would load it too or instead; move it elsewhere"
        )


def _check_settings(folder: Path) -> None:
    """Raises BadInput for broken settings that transformers and vLLM read."""
    for name in _SETTINGS:
        try:
            object_if_there(folder / name)
        except BadInput as error:
            raise BadInput(f"{error}; {_AGAIN}") from None


def _check_index(folder: Path) -> None:
    """Raises BadInput if `model.safetensors.index.json` disagrees with the weight files."""
    file = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return
    if not file.is_file():
        _check_numbering(folder)
        return
    try:
        named = {str(tensor): str(part) for tensor, part in read_object(file)["weight_map"].items()}
    except (BadInput, KeyError, AttributeError):
        raise BadInput(f"{file}: no index of weights; {_AGAIN}") from None
    parts = {part: _part(folder, file, part) for part in set(named.values())}
    for tensor, part in named.items():
        if tensor not in parts[part]:
            raise BadInput(f"{file}: says that {tensor} is in {part}, where it is not; {_AGAIN}")
    for part, shapes in parts.items():
        if other := next((tensor for tensor in shapes if tensor not in named), None):
            raise BadInput(f"{file}: does not name {other}, which {part} holds; {_AGAIN}")


def _part(folder: Path, index: Path, part: str) -> Shapes:
    if not (folder / part).is_file():
        raise BadInput(f"{index}: names {part}, which is not there; download the model again")
    return shapes_of(folder / part)


def _check_numbering(folder: Path) -> None:
    """Raises BadInput if a numbered part (`model-00001-of-00003.safetensors`) is missing."""
    for file in folder.glob("*.safetensors"):
        if (numbered := re.fullmatch(r"(.+-)(\d+)(-of-)(\d+)(\.safetensors)", file.name)) is None:
            continue
        stem, number, of, parts, end = numbered.groups()
        for i in range(1, int(parts) + 1):
            other = f"{stem}{i:0{len(number)}d}{of}{parts}{end}"
            if not (folder / other).is_file():
                raise BadInput(f"{folder}: holds {file.name}, and {other} is not there; {_AGAIN}")


def _contradictions(model: ModelRef, shapes: Shapes) -> Iterator[str]:
    """Contradictions between tensors and settings; each text follows the folder's name."""
    config = model.config()
    nested = config.get("text_config")
    settings: Mapping[str, Any] = nested if isinstance(nested, dict) else config
    # Composite models have several lists of layers.
    if settings is config and not config.get("is_encoder_decoder"):
        yield from _layers(config, shapes)
    if config.get("model_type") in _PLAIN and "quantization_config" not in config:
        yield from _widths(config, shapes)
    yield from _embeddings(model, settings, config, shapes)


def _layers(config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    counts = {key: config[key] for key in _LAYER_COUNTS if isinstance(config.get(key), int)}
    lists: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in shapes:
        if layer := _LAYER.fullmatch(name):
            lists[layer["list"]][int(layer["number"])].add(layer["rest"])
    if not counts or not lists:
        return
    longest = max(lists, key=lambda each: len(lists[each]))
    layers = lists[longest]
    if config.get("model_type") in _PLAIN and "quantization_config" not in config:
        yield from _lost(longest, layers)
    if any(layers.keys() == set(range(count)) for count in counts.values()):
        return
    key, count = next(iter(counts.items()))
    if (gap := next((i for i in range(count) if i not in layers), None)) is not None:
        yield (
            f"config.json: {key} is {count}, and the weight files have no {longest}.{gap}; {_AGAIN}"
        )
    drafts = any(_DRAFT.search(name) for name in config)
    if (last := max(layers)) >= count and not drafts:
        yield (
            f"config.json: {key} is {count}, and the weight files have {longest}.{last} too; "
            f"write {key}: {last + 1}, or {_AGAIN}"
        )


def _lost(name: str, layers: Mapping[int, set[str]]) -> Iterator[str]:
    """Tensors that one layer lacks, in a model whose layers are all alike."""
    union = set().union(*layers.values())
    for number, rests in sorted(layers.items()):
        if lost := sorted(union - rests):
            yield (
                f"its weight files have no {name}.{number}.{lost[0]}, "
                f"which other layers have; {_AGAIN}"
            )


def _widths(config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    """Matrices of a plain model that contradict the sizes in its settings."""
    hidden, heads, inner = (
        config.get(k) for k in ("hidden_size", "num_attention_heads", "intermediate_size")
    )
    if not (
        isinstance(hidden, int) and isinstance(heads, int) and heads and isinstance(inner, int)
    ):
        return
    head = config.get("head_dim") or hidden // heads
    keys = config.get("num_key_value_heads") or heads
    expected = {
        "self_attn.q_proj": (heads * head, hidden),
        "self_attn.k_proj": (keys * head, hidden),
        "self_attn.v_proj": (keys * head, hidden),
        "self_attn.o_proj": (hidden, heads * head),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for name in filter(_LAYER.fullmatch, shapes):
        place = ".".join(name.split(".")[-3:-1])
        shape = expected.get(place) if name.endswith(".weight") else None
        if shape and shapes[name] != shape:
            by_config, by_file = (" x ".join(map(str, each)) for each in (shape, shapes[name]))
            yield (
                f"config.json: by it {name} is {by_config}, and the file has {by_file}; {_ITS_OWN}"
            )


def _embeddings(
    model: ModelRef, settings: Mapping[str, Any], config: Mapping[str, Any], shapes: Shapes
) -> Iterator[str]:
    inputs = next((name for name in sorted(shapes, key=len) if _INPUTS.fullmatch(name)), None)
    vocabulary, hidden = (
        settings.get("vocab_size"),
        settings.get("hidden_size", settings.get("n_embd")),
    )
    if inputs is None:
        return
    if "quantization_config" not in config and len(shapes[inputs]) == 2:
        rows, width = shapes[inputs]
        if isinstance(vocabulary, int) and rows != vocabulary:
            yield (
                f"config.json: vocab_size is {vocabulary}, and {inputs} has {rows} rows; "
                f"write vocab_size: {rows}"
            )
        if (head := shapes.get("lm_head.weight")) and head[0] != rows:
            yield f"{inputs} has {rows} rows and lm_head.weight {head[0]}; {_AGAIN}"
        other = "word_embed_proj_dim" in settings or "embedding_size" in settings
        if isinstance(hidden, int) and width != hidden and not other:
            yield (
                f"config.json: hidden_size is {hidden}, and {inputs} has {width} columns; "
                f"{_ITS_OWN}"
            )
    tied = config.get("tie_word_embeddings", settings.get("tie_word_embeddings"))
    if tied is True and _HEADS[0] in shapes and not _equal(model, inputs, _HEADS[0]):
        yield (
            "config.json: tie_word_embeddings is true, and the weight files have another "
            f"lm_head.weight than {inputs}; write tie_word_embeddings: false"
        )
    if tied is False and not any(name.endswith(_HEADS) for name in shapes):
        yield (
            "config.json: tie_word_embeddings is false, and the weight files have no "
            f"lm_head.weight; write true, or {_AGAIN}"
        )


def _equal(model: ModelRef, one: str, other: str) -> bool:
    """Whether two tensors have the same bytes, read a block at a time."""
    places = {
        name: (file, stored) for file in model.shards() for name, stored in headers_of(file).items()
    }
    (file, a), (other_file, b) = places[one], places[other]
    with file.open("rb") as first, other_file.open("rb") as second:
        first.seek(a.begin)
        second.seek(b.begin)
        left = a.end - a.begin
        if left != b.end - b.begin:
            return False
        while left > 0:
            size = min(left, _BLOCK)
            if first.read(size) != second.read(size):
                return False
            left -= size
    return True
