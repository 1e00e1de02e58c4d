"""Reads names, shapes, dtypes and value checks from safetensors files, without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import BadInput
from foundation.files.text_file import GIT_LFS_POINTER

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Shapes = dict[str, tuple[int, ...]]

_FLOATS = {
    "F64": (8, 0x7FF0000000000000),
    "F32": (4, 0x7F800000),
    "F16": (2, 0x7C00),
    "BF16": (2, 0x7F80),
}
"""Bytes of a number, and its exponent bits, which are all set in infinities and NaN."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a header describes it.

    `dtype`: safetensors' name ("BF16"). `begin`, `end`: the bytes in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Values:
    """Whether all values of a tensor are finite, and whether all are zero."""

    finite: bool
    zero: bool


def shapes_of(file: Path) -> Shapes:
    """The shape of every tensor of a file. Raises BadInput if it is no safetensors file."""
    return {name: tensor.shape for name, tensor in headers_of(file).items()}


def headers_of(file: Path) -> dict[str, StoredTensor]:
    """The header of every tensor of a file. Raises BadInput for a broken safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        # It compares the header with the file's length.
        with safe_open(file, framework="numpy"):
            pass
    except SafetensorError as error:
        raise BadInput(f"{file}: {_why_no_weights(file, error)}") from None
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    first = 8 + length
    header.pop("__metadata__", None)
    return {name: _stored(entry, first) for name, entry in header.items()}


def values_of(file: Path) -> dict[str, Values]:
    """Checks of every tensor's values, one tensor in memory at a time.

    Raises BadInput for a dtype other than F64, F32, F16 and BF16.
    """
    import numpy as np

    values = {}
    headers = headers_of(file)
    data = np.memmap(file, mode="r")
    for name, tensor in headers.items():
        if tensor.dtype not in _FLOATS:
            raise BadInput(
                f"{file}: {name} is stored as {tensor.dtype}; write float32, bfloat16 or float16"
            )
        values[name] = _look(data[tensor.begin : tensor.end], tensor.dtype)
    return values


def _why_no_weights(file: Path, error: Exception) -> str:
    with file.open("rb") as opened:
        if opened.read(len(GIT_LFS_POINTER)) == GIT_LFS_POINTER:
            return "what Git LFS leaves in a file's place; run git lfs pull there"
    return f"not a safetensors file ({error})"


def _stored(entry: dict[str, Any], first: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    return StoredTensor(entry["dtype"], tuple(entry["shape"]), first + begin, first + end)


def _look(data: npt.NDArray[np.uint8], dtype: str) -> Values:
    import numpy as np

    size, exponent = _FLOATS[dtype]
    bits = np.frombuffer(data, dtype=f"<u{size}")
    sign = 1 << (8 * size - 1)
    return Values(
        finite=not bool(((bits & exponent) == exponent).any()),
        zero=not bool((bits & (sign - 1)).any()),
    )
