"""A model folder and the model's public name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import BadInput
from foundation.files.json_object import object_if_there, read_object
from foundation.installed import strings
from foundation.models.weights import Shapes, shapes_of

_EDGE = 1 << 20


@dataclass(frozen=True)
class ModelRef:
    """A checkpoint folder (`config.json`, safetensors, tokenizer), with its id and revision.

    `id` goes into adapters and reports; `path` belongs to this machine and goes into neither.
    """

    id: str
    revision: str | None
    path: Path

    def fingerprint(self) -> str:
        """A SHA-256 (hex) that tells whether two folders hold the same weights; cheap at any size.

        It covers each safetensors file's length, first MiB (the header: names, shapes, offsets)
        and last MiB.
        """
        digest = hashlib.sha256()
        for shard in self.shards():
            size = shard.stat().st_size
            digest.update(f"{shard.name}:{size}\n".encode())
            with shard.open("rb") as file:
                digest.update(file.read(_EDGE))
                file.seek(max(0, size - _EDGE))
                digest.update(file.read(_EDGE))
        return digest.hexdigest()

    def shapes(self) -> Shapes:
        """The shape of every tensor in the weight files. Raises BadInput as `shards` does."""
        return {name: shape for shard in self.shards() for name, shape in shapes_of(shard).items()}

    def shards(self) -> list[Path]:
        """The weight files. Raises BadInput if there are no safetensors files."""
        if not (shards := self._shards()):
            raise BadInput(
                f"{self.path}: no *.safetensors weights; "
                "pickle weights are not loaded, convert them first"
            )
        return shards

    def _shards(self) -> list[Path]:
        """The files that transformers and vLLM load.

        Some checkpoints hold the same weights a second time, under their maker's names.
        """
        whole, index = self.path / "model.safetensors", self.path / "model.safetensors.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            named = [self.path / name for name in _parts(index)]
            if missing := [file.name for file in named if not file.is_file()]:
                raise BadInput(
                    f"{index}: names {missing[0]}, which is not there; download the model again"
                )
            return named
        return sorted(self.path.glob("*.safetensors"))

    def size_bytes(self) -> int:
        """Bytes of the weight files, which a server reads into memory."""
        return sum(file.stat().st_size for file in self._shards())

    def brings_code(self) -> bool:
        """Whether only Python code from its folder or from the hub can load the model."""
        config = self.config()
        return bool(config.get("auto_map")) and str(config.get("model_type")) not in _known_types()

    def tokenizer_brings_code(self) -> bool:
        """Whether only Python code from its folder or from the hub can load the tokenizer."""
        config = object_if_there(self.path / "tokenizer_config.json")
        code, name = config.get("auto_map"), str(config.get("tokenizer_class"))
        has_code = isinstance(code, dict) and bool(code.get("AutoTokenizer"))
        return has_code and name.removesuffix("Fast") not in _known_tokenizers()

    def config(self) -> dict[str, object]:
        """`config.json`, parsed. Raises BadInput if it is missing or broken."""
        file = self.path / "config.json"
        if not file.is_file():
            raise BadInput(f"{self.path}: not a model folder, it has no config.json")
        return read_object(file)


def _parts(index: Path) -> list[str]:
    """The files that an index of weights names. Raises BadInput for a broken index."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise BadInput(f"{index}: no index of weights (weight_map); download the model again")
    return sorted(set(places.values()))


def _known_types() -> frozenset[str]:
    """Model types that transformers or vLLM implement themselves."""
    names = "CONFIG_MAPPING_NAMES"
    return (
        strings("transformers", "models/auto/auto_mappings.py", names)
        | strings("transformers", "models/auto/configuration_auto.py", names)
        | strings("vllm", "transformers_utils/config.py", "_CONFIG_REGISTRY")
    )


def _known_tokenizers() -> frozenset[str]:
    """Classes of tokenizers that transformers implements, without "Fast" at the end."""
    mapped = strings("transformers", "models/auto/tokenization_auto.py", "TOKENIZER_MAPPING_NAMES")
    return mapped | {"PreTrainedTokenizer", "TokenizersBackend"}


def is_causal(architecture: str) -> bool:
    """Whether an architecture, as `config.json` names it, is a causal language model.

    Most say so in their names. transformers and vLLM list the others, such as GPT2LMHeadModel.
    """
    return "CausalLM" in architecture or architecture in (
        strings("transformers", "models/auto/modeling_auto.py", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
        | strings("vllm", "model_executor/models/registry.py", "_TEXT_GENERATION_MODELS")
    )
