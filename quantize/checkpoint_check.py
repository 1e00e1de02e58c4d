"""Compares every tensor of a quantized checkpoint with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.errors import BadInput, SystemFailed
from foundation.models.checkpoint import check_checkpoint
from foundation.models.loading import listed, names_left_out
from foundation.models.model import ModelRef
from foundation.models.tensors import Tensors
from quantize.layers import linear_inputs, quantized_layers
from quantize.merging.adapter_tensors import TensorNames, is_embedding, is_head
from quantize.merging.arithmetic import is_turned
from quantize.methods import Algorithm
from quantize.plan import QuantizationPlan
from quantize.quantization_config import check_description
from quantize.stored_layers import EXTRAS, StoredLayer, tensors_of_layer

if TYPE_CHECKING:
    import torch

_SCALED: tuple[Algorithm, ...] = ("awq", "smoothquant")
"""Algorithms that multiply rows and columns by factors before they round."""

_MOST_ERROR = {8: 0.05, 4: 0.5}
"""The most that learned rounding may be off: length of the error over the weight's, by bits."""

_SMALLEST = 1e-30


def check_quantized(plan: QuantizationPlan, written: ModelRef) -> None:
    """Raises SystemFailed where the files at `written` are not the source quantized as planned.

    Rounding to nearest stays within its format's rounding error at every number. Learned rounding
    stays near the source as a whole; AWQ and SmoothQuant do after the best factor for each row and
    column. Every other tensor is the source's own.
    """
    check_description(plan, written)
    try:
        check_checkpoint(written)
    except BadInput as error:
        raise SystemFailed(f"what was written is not whole: {error}") from None
    before, after = Tensors(plan.source.shards()), Tensors(written.shards())
    names, layers = TensorNames(after.names), _layers(plan, after)
    expected: set[str] = set()
    for name in before.names:
        layer = name.removesuffix(".weight")
        if layer in layers:
            expected |= _check_layer(plan, layer, before[name], names, after, written)
        elif (stored := names.find(name)) is not None:
            expected.add(stored)
            _check_copy(plan, after[stored], before[name], f"{written.path}: {stored}")
        else:
            _check_left_out(name, plan.source, written)
    if others := sorted(set(after.names) - expected):
        raise SystemFailed(
            f"{written.path}: {others[0]} was written, and {plan.source.id} has no such tensor"
        )


def _layers(plan: QuantizationPlan, after: Tensors) -> set[str]:
    """The layers that must be quantized.

    Raises BadInput for a layer that bitsandbytes left in full precision: in memory it is no linear
    layer.
    """
    source, method = plan.source, plan.method
    if method.scheme is not None:
        return quantized_layers(source, plan.kept)
    names, mark = TensorNames(after.names), method.tensors[-1]
    layers = {
        name
        for name in linear_inputs(source)
        if name not in plan.kept and not is_embedding(f"{name}.weight")
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
            f"quantize.keep: {plan.config.method} leaves {listed(whole)} of {source.id} "
            "in full precision; add what stays"
        )
    return layers


def _check_layer(
    plan: QuantizationPlan,
    layer: str,
    weight: torch.Tensor,
    names: TensorNames,
    after: Tensors,
    written: ModelRef,
) -> set[str]:
    """Compare a quantized layer with its source, and return the names that its tensors may have."""
    source, method = plan.source, plan.method
    first, where = method.tensors[0], f"{written.path}: {layer}"
    stored = names.find(f"{layer}.{first}")
    if stored is None:
        _check_left_out(f"{layer}.weight", source, written)
        return set()
    stored_as = stored.removesuffix(f".{first}")
    try:
        numbers = method.read(tensors_of_layer(after, stored_as, method.tensors))
    except KeyError as error:
        raise SystemFailed(
            f"{written.path}: {error.args[0]} is not there: {layer} can't be read"
        ) from None
    weight = _as_loaded(weight, source)
    if method.scheme is None and is_turned(f"{layer}.weight", source.config().get("model_type")):
        weight = weight.T  # bitsandbytes stores every layer as (out, in)
    if numbers.value.shape != weight.shape:
        raise SystemFailed(
            f"{where} stands for {tuple(numbers.value.shape)} numbers, "
            f"and is {tuple(weight.shape)} in the source"
        )
    if plan.config.calibrated:
        _check_error(plan, numbers.value, weight, where)
    else:
        _check_rounding(plan, numbers, weight, where)
    return {f"{stored_as}.{part}" for part in (*method.tensors, *EXTRAS)}


def _check_rounding(
    plan: QuantizationPlan, stored: StoredLayer, weight: torch.Tensor, where: str
) -> None:
    off = (stored.value - weight).abs()
    if not bool((off <= stored.allowed + _SMALLEST).all()):
        raise SystemFailed(
            f"{where} is further from the source than {plan.config.method} rounds: "
            f"by up to {float(off.max()):.3g} "
            f"where weights are up to {float(weight.abs().max()):.3g}"
        )


def _check_error(
    plan: QuantizationPlan, value: torch.Tensor, weight: torch.Tensor, where: str
) -> None:
    error = _error(value, weight, scaled=plan.config.algorithm in _SCALED)
    most = _MOST_ERROR[plan.method.bits]
    # Written so that NaN fails too.
    if not error <= most:
        raise SystemFailed(
            f"{where} is off by {error:.0%} of the source's weight; "
            f"{plan.config.algorithm} leaves {most:.0%} at most"
        )


def _error(value: torch.Tensor, weight: torch.Tensor, *, scaled: bool) -> float:
    """Length of the error over that of the weight; `scaled` first applies the best factors."""
    for _ in range(4 if scaled else 0):
        weight = weight * _factors(value, weight, 0)
        weight = weight * _factors(value, weight, 1)
    return float((value - weight).norm() / weight.norm().clamp_min(_SMALLEST))


def _factors(value: torch.Tensor, weight: torch.Tensor, dim: int) -> torch.Tensor:
    """The factors of rows or columns that fit best, by least squares."""
    squares = weight.square().sum(dim, keepdim=True).clamp_min(_SMALLEST)
    return (value * weight).sum(dim, keepdim=True) / squares


def _check_copy(
    plan: QuantizationPlan, written: torch.Tensor, original: torch.Tensor, where: str
) -> None:
    import torch

    if written.shape != original.shape:
        raise SystemFailed(
            f"{where} is {tuple(written.shape)}, and {tuple(original.shape)} in the source"
        )
    # Norms and biases take up the factors that the weights were scaled by.
    if plan.config.algorithm in _SCALED and original.dim() == 1:
        same = bool(written.isfinite().all())
    else:
        same = torch.equal(written, original.to(written.dtype))
    if not same or written.is_floating_point() != original.is_floating_point():
        raise SystemFailed(f"{where} is kept in full precision, and is not the source's own")


def _as_loaded(weight: torch.Tensor, source: ModelRef) -> torch.Tensor:
    """The weight in the dtype that `config.json` names, which is the one that was rounded."""
    import torch

    dtype = source.config().get("dtype") or source.config().get("torch_dtype")
    return (weight.to(getattr(torch, dtype)) if isinstance(dtype, str) else weight).float()


def _check_left_out(name: str, source: ModelRef, written: ModelRef) -> None:
    tied = is_head(name) and bool(source.config().get("tie_word_embeddings"))
    if not tied and not names_left_out(source.path)(name):
        raise SystemFailed(f"{written.path}: {name} of the source was not written")
