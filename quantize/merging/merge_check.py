"""Compares every tensor of a merged checkpoint with base + adapter, one in memory at a time."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.errors import BadInput, SystemFailed
from foundation.models.loading import listed, names_left_out
from foundation.models.lora import WEIGHTS
from foundation.models.model import ModelRef
from foundation.models.tensors import Tensors
from quantize.merging.adapter_check import is_tied, read_adapter_config
from quantize.merging.adapter_tensors import (
    Parts,
    Role,
    TensorNames,
    is_embedding,
    is_head,
    parts_of,
)
from quantize.merging.arithmetic import Expected, expected

if TYPE_CHECKING:
    import torch


def check_merged(base: ModelRef, adapter: Path, merged: ModelRef) -> int:
    """The number of tensors that the adapter changed in the written files.

    Raises SystemFailed where a written tensor is not base + adapter to within rounding or has
    another dtype than the base's, or where a tensor of base or adapter is missing. Raises BadInput
    where rounding to the base's dtype leaves nothing of the adapter.
    """
    config, model_type = read_adapter_config(adapter), base.config().get("model_type")
    before, after = Tensors(base.shards()), Tensors(merged.shards())
    added = Tensors([adapter / WEIGHTS])
    tied, parts = is_tied(base), parts_of(adapter)
    names = TensorNames(before.names, tied=tied)
    targets = TensorNames(parts, tied=tied and bool(config.get("ensure_weight_tying")))
    kept, applied, changed = set(), set(), 0
    for name in after.names:
        source = names.find(name)
        if source is None:
            raise SystemFailed(
                f"{merged.path}: {name} was written, and {base.id} has no such tensor"
            )
        kept.add(source)
        written, original = after[name], before[source]
        target = targets.find(name)
        if target is None:
            reference = Expected(original, None)
        else:
            applied.add(target)
            tensors: dict[Role, torch.Tensor] = {
                role: added[key] for role, key in parts[target].items()
            }
            reference = expected(target, original, tensors, config, model_type)
            changed += not _is_same(written, original)
        _hold_against(written, reference, original.dtype, f"{merged.path}: {name}")
    unapplied = {target: roles for target, roles in parts.items() if target not in applied}
    _check_unapplied(unapplied, added, after, adapter, merged)
    _check_kept(before, kept, base, merged)
    if not changed:
        raise BadInput(
            f"{adapter}: nothing of it is left after rounding to the dtype of {base.id}: "
            "every merged weight is the base's own"
        )
    return changed


def _check_unapplied(
    parts: Parts, added: Tensors, after: Tensors, adapter: Path, merged: ModelRef
) -> None:
    """Raises SystemFailed for a part of the adapter that changed no written tensor."""
    lost = [
        target
        for target in parts
        if not _is_written_as_embeddings(target, parts, added, after, merged)
    ]
    if lost:
        raise SystemFailed(
            f"{merged.path}: nothing was written for {listed(lost)}, which {adapter} changes"
        )


def _is_written_as_embeddings(
    target: str, parts: Parts, added: Tensors, after: Tensors, merged: ModelRef
) -> bool:
    """Whether an adapter's head was written as the embeddings, which the merged model shares."""
    if not is_head(target) or "whole" not in parts[target] or not is_tied(merged):
        return False
    head = added[parts[target]["whole"]]
    return any(
        _is_same(after[name], head.to(after[name].dtype))
        for name in after.names
        if is_embedding(name)
    )


def _hold_against(
    written: torch.Tensor, reference: Expected, dtype: torch.dtype, where: str
) -> None:
    import torch

    if written.dtype != dtype or written.shape != reference.value.shape:
        raise SystemFailed(
            f"{where} is {_kind(written.dtype)} {tuple(written.shape)}, "
            f"not {_kind(dtype)} {tuple(reference.value.shape)}"
        )
    if reference.slack is None:
        if not _is_same(written, reference.value.to(dtype)):
            raise SystemFailed(
                f"{where} is not a copy of what the base, or the adapter, has for it"
            )
        return
    rounding = torch.finfo(dtype)
    allowed = (
        reference.slack
        + 0.501 * rounding.eps * reference.value.abs()
        + rounding.smallest_normal * rounding.eps
    )
    off = (written.float() - reference.value).abs()
    # Written so that NaN fails too.
    if not bool((off <= allowed).all()):
        raise SystemFailed(
            f"{where} is not base + adapter: off by up to {float(off.max()):.3g} "
            f"where weights are up to {float(reference.value.abs().max()):.3g}"
        )


def _check_kept(before: Tensors, kept: Collection[str], base: ModelRef, merged: ModelRef) -> None:
    """Raises SystemFailed for a tensor of the base that is missing in the written files.

    A tied head, and what the model's class passes over, may be missing.
    """
    lost = [name for name in before.names if name not in kept]
    if is_tied(base):
        lost = [name for name in lost if not is_head(name)]
    copies = (
        is_head(name) and any(_is_same(before[name], before[k]) for k in kept if is_embedding(k))
        for name in lost
    )
    lost = [name for name, copy in zip(lost, copies, strict=True) if not copy]
    if lost:
        passed_over = names_left_out(base.path)
        for name in lost:
            if not passed_over(name):
                raise SystemFailed(f"{merged.path}: {name} of the base was not written")


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit by bit, so that NaN is the same as itself."""
    import torch

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    one_bytes, other_bytes = (tensor.reshape(-1).view(torch.uint8) for tensor in (one, other))
    return bool(torch.equal(one_bytes, other_bytes))


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
