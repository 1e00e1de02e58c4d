"""Names and shapes of weights, from the headers of safetensors files: no weight is read and no torch loaded."""

from __future__ import annotations

from pathlib import Path

from foundation.errors import BadInput

Shapes = dict[str, tuple[int, ...]]


def shapes_of(file: Path) -> Shapes:
    """Every tensor of a file. Raises BadInput where it is no safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BadInput(f"{file}: not a safetensors file ({error})") from None
