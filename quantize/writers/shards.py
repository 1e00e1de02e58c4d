"""Safetensors files, read and written one tensor at a time: a model need not fit in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.files.atomic_write import write_whole
from foundation.models.model import ModelRef

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 1 << 30
"""A file is written when it holds this much, so this much is kept in memory."""


def tensors_of(model: ModelRef) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor with its name, in the order of the files; each is read when its turn comes."""
    from safetensors import safe_open

    for file in model.shards():
        # Read, not mapped: mapped pages count as this process's memory while the file is open.
        with safe_open(file, framework="pt", backend="pread") as tensors:
            for name in tensors.offset_keys():
                yield name, tensors.get_tensor(name)


class ShardWriter:
    """Writes `model.safetensors`, or several files and their index, named as transformers does."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._waiting: dict[str, torch.Tensor] = {}
        self._waiting_bytes = 0
        self._written: list[tuple[Path, list[str]]] = []
        self._total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Keep a tensor for the file that is being filled, after writing a full one."""
        if self._waiting and self._waiting_bytes + tensor.nbytes > self._shard_bytes:
            self._write()
        self._waiting[name] = tensor
        self._waiting_bytes += tensor.nbytes
        self._total += tensor.nbytes

    def close(self) -> None:
        """Write what is left and name the files, whose number is known only now."""
        self._write()
        if len(self._written) == 1:
            self._written[0][0].rename(self._folder / "model.safetensors")
            return
        places: dict[str, str] = {}
        for number, (file, names) in enumerate(self._written, start=1):
            name = f"model-{number:05}-of-{len(self._written):05}.safetensors"
            file.rename(self._folder / name)
            places |= dict.fromkeys(names, name)
        index = {"metadata": {"total_size": self._total}, "weight_map": places}
        file = self._folder / "model.safetensors.index.json"
        write_whole(file, json.dumps(index, indent=2) + "\n")

    def _write(self) -> None:
        from safetensors.torch import save_file

        file = self._folder / f"model-{len(self._written) + 1:05}.safetensors"
        save_file(self._waiting, file, metadata={"format": "pt"})
        self._written.append((file, list(self._waiting)))
        self._waiting, self._waiting_bytes = {}, 0
