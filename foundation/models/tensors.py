"""Reads tensors of safetensors files by name, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Tensors:
    """The tensors of some files by name, read at each access. Later files win a name."""

    def __init__(self, files: Iterable[Path]) -> None:
        from safetensors import safe_open

        self._files: dict[str, Any] = {}
        for file in files:
            opened: Any = safe_open(file, framework="pt", backend="pread")
            self._files |= dict.fromkeys(opened.keys(), opened)

    @property
    def names(self) -> list[str]:
        """The tensors' names, in the order of the files."""
        return list(self._files)

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def get(self, name: str) -> torch.Tensor | None:
        """The tensor; None if no file has it."""
        return self[name] if name in self._files else None
