"""Reads a quantized checkpoint back and holds it against its source: every tensor, and what its config says of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from foundation.errors import BadInput, SystemFailed
from foundation.models.checkpoint import check_checkpoint
from foundation.models.loading import listed, names_left_out
from foundation.models.model import ModelRef
from foundation.models.tensors import Tensors
from quantize.config import Algorithm, Method, QuantizeConfig
from quantize.layers import linear_inputs, quantized_layers
from quantize.merging.adapter_tensors import TensorNames, is_embedding, is_head
from quantize.merging.arithmetic import is_turned
from quantize.stored_layers import EXTRAS, PARTS, StoredLayer, read_layer

if TYPE_CHECKING:
    import torch

_NUMBERS: dict[Method, tuple[int, str]] = {
    "w8a8-int8": (8, "int"),
    "w4a16": (4, "int"),
    "fp8-dynamic": (8, "float"),
    "nvfp4": (4, "float"),
}
_BITSANDBYTES: tuple[Method, ...] = ("bnb-nf4", "bnb-int8")
_SCALED: tuple[Algorithm, ...] = ("awq", "smoothquant")
_MOST_ERROR: dict[int, float] = {8: 0.05, 4: 0.5}
"""Length of the error over that of the weight, by bits, where the rounding is learned: it is nearest to something else."""


def check_quantized(
    source: ModelRef,
    config: QuantizeConfig,
    group_size: int | None,
    kept: Collection[str],
    written: ModelRef,
) -> None:
    """Raises SystemFailed where the files at `written` are not `source` quantized as asked.

    A layer rounded to nearest is within its format's rounding of the source at every number; one whose rounding was learned is
    near it as a whole, for AWQ and SmoothQuant but for a factor a row and a column. All else is the source's own.
    """
    _check_config(config, group_size, kept, written)
    try:
        check_checkpoint(written)
    except BadInput as error:
        raise SystemFailed(f"what was written is not whole: {error}") from None
    before, after = Tensors(source.shards()), Tensors(written.shards())
    names = TensorNames(after.names)
    layers = _layers(source, config, kept, after)
    seen: set[str] = set()
    for name in before.names:
        layer = name.removesuffix(".weight")
        found = names.find(name if layer not in layers else f"{layer}.{PARTS[config.method][0]}")
        if found is None:
            _check_left_out(name, source, written)
            continue
        if layer not in layers:
            seen.add(found)
            _hold_copy(after[found], before[name], config, f"{written.path}: {found}")
            continue
        stored_as = found.removesuffix(f".{PARTS[config.method][0]}")
        seen |= {f"{stored_as}.{part}" for part in (*PARTS[config.method], *EXTRAS)}
        try:
            stored = read_layer(after, stored_as, config.method)
        except KeyError as error:
            raise SystemFailed(
                f"{written.path}: {error.args[0]} is not there: {layer} can't be read"
            ) from None
        weight = _as_loaded(before[name], source)
        if config.method in _BITSANDBYTES and is_turned(name, source.config().get("model_type")):
            weight = weight.T  # it stores every layer as (out, in)
        _hold_layer(stored, weight, config, f"{written.path}: {layer}")
    if others := sorted(set(after.names) - seen):
        raise SystemFailed(
            f"{written.path}: {others[0]} was written, and {source.id} has no such tensor"
        )


def _layers(
    source: ModelRef, config: QuantizeConfig, kept: Collection[str], after: Tensors
) -> set[str]:
    """Those that must be quantized. Raises BadInput for one that bitsandbytes left as it was: no linear layer in memory."""
    if config.method not in _BITSANDBYTES:
        return quantized_layers(source, kept)
    names, mark = TensorNames(after.names), PARTS[config.method][-1]
    layers = {
        name
        for name in linear_inputs(source)
        if name not in kept and not is_embedding(f"{name}.weight")
    }
    unmarked = {
        name: names.find(f"{name}.weight")
        for name in layers
        if names.find(f"{name}.{mark}") is None
    }
    if whole := [
        name for name, stored in unmarked.items() if stored and after[stored].is_floating_point()
    ]:
        raise BadInput(
            f"quantize.keep: {config.method} leaves {listed(whole)} of {source.id} in full precision; add what stays"
        )
    return layers


def _hold_copy(
    written: torch.Tensor, original: torch.Tensor, config: QuantizeConfig, where: str
) -> None:
    import torch

    if written.shape != original.shape:
        raise SystemFailed(
            f"{where} is {tuple(written.shape)}, and {tuple(original.shape)} in the source"
        )
    if (
        config.algorithm in _SCALED and original.dim() == 1
    ):  # norms and biases take up what the weights were scaled by
        same = bool(written.isfinite().all())
    else:
        same = torch.equal(written, original.to(written.dtype))
    if not same or written.is_floating_point() != original.is_floating_point():
        raise SystemFailed(f"{where} is kept in full precision, and is not the source's own")


def _hold_layer(
    stored: StoredLayer, weight: torch.Tensor, config: QuantizeConfig, where: str
) -> None:
    value, allowed = stored.value, stored.allowed
    if value.shape != weight.shape:
        raise SystemFailed(
            f"{where} stands for {tuple(value.shape)} numbers, and is {tuple(weight.shape)} in the source"
        )
    if config.calibrated:
        error, most = (
            _error(value, weight, scaled=config.algorithm in _SCALED),
            _MOST_ERROR[_NUMBERS[config.method][0]],
        )
        # Asked so that NaN fails too.
        if not error <= most:
            raise SystemFailed(
                f"{where} is off by {error:.0%} of the source's weight; {config.algorithm} leaves {most:.0%} at most"
            )
        return
    off = (value - weight).abs()
    if not bool((off <= allowed + 1e-30).all()):
        raise SystemFailed(
            f"{where} is further from the source than {config.method} rounds: by up to {float(off.max()):.3g} where weights "
            f"are up to {float(weight.abs().max()):.3g}"
        )


def _error(value: torch.Tensor, weight: torch.Tensor, *, scaled: bool) -> float:
    """Length of the error over that of the weight; with `scaled` after the factors of rows and columns that fit best."""
    for _ in range(4 if scaled else 0):
        weight = weight * _factors(value, weight, 0)
        weight = weight * _factors(value, weight, 1)
    return float((value - weight).norm() / weight.norm().clamp_min(1e-30))


def _factors(value: torch.Tensor, weight: torch.Tensor, dim: int) -> torch.Tensor:
    """By least squares."""
    return (value * weight).sum(dim, keepdim=True) / weight.square().sum(
        dim, keepdim=True
    ).clamp_min(1e-30)


def _as_loaded(weight: torch.Tensor, source: ModelRef) -> torch.Tensor:
    """In the dtype that `config.json` names, which is the one that was rounded."""
    import torch

    dtype = source.config().get("dtype") or source.config().get("torch_dtype")
    return (weight.to(getattr(torch, dtype)) if isinstance(dtype, str) else weight).float()


def _check_left_out(name: str, source: ModelRef, written: ModelRef) -> None:
    tied = is_head(name) and bool(source.config().get("tie_word_embeddings"))
    if not tied and not names_left_out(source.path)(name):
        raise SystemFailed(f"{written.path}: {name} of the source was not written")


def _check_config(
    config: QuantizeConfig, group_size: int | None, kept: Collection[str], written: ModelRef
) -> None:
    about: Any = written.config().get("quantization_config")
    if not isinstance(about, dict):
        raise SystemFailed(
            f"{written.path}/config.json: has no quantization_config, and the weights are quantized"
        )
    if config.method in _BITSANDBYTES:
        four = config.method == "bnb-nf4"
        wanted = {"quant_method": "bitsandbytes", "load_in_4bit": four, "load_in_8bit": not four}
        wanted |= {"bnb_4bit_quant_type": "nf4"} if four else {}
        has, kept_there = about, about.get("llm_int8_skip_modules")
    else:
        bits, kind = _NUMBERS[config.method]
        wanted = {
            "quant_method": "compressed-tensors",
            "num_bits": bits,
            "type": kind,
            "symmetric": True,
        }
        wanted |= {"group_size": group_size} if group_size else {}
        [group] = about.get("config_groups", {}).values() or [{}]
        has, kept_there = (
            {**(group.get("weights") or {}), "quant_method": about.get("quant_method")},
            about.get("ignore"),
        )
    for key, value in wanted.items():
        if has.get(key) != value:
            raise SystemFailed(
                f"{written.path}/config.json: {key} is {has.get(key)!r}, and {value!r} was asked for"
            )
    if not config.calibrated and (lost := sorted(set(kept) - set(kept_there or ()))):
        raise SystemFailed(
            f"{written.path}/config.json: {lost[0]} is kept in full precision, and not named there"
        )
