"""The same block under two variants, or under two stages: one of them was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from results.measures.doubt import Doubt
from results.measures.steady_state import StageBlock, StageData

Stages = Mapping[str, StageData]


def without_copies(variants: Mapping[str, Stages]) -> dict[str, dict[str, StageData]]:
    """The stages of each variant. Those that share a block with another variant are INVALID."""
    owners: dict[tuple[int, bytes], list[tuple[str, str]]] = {}
    for variant, stages in variants.items():
        for name, stage in stages.items():
            for block in stage.blocks:
                if (mark := _mark(block)) is not None:
                    owners.setdefault(mark, []).append((variant, name))
    shared = [places for places in owners.values() if len(places) > 1]
    return {
        variant: {name: _doubted(stage, (variant, name), shared) for name, stage in stages.items()}
        for variant, stages in variants.items()
    }


def _mark(block: StageBlock) -> tuple[int, bytes] | None:
    """When the block began and what came when.

    Blocks of a mix begin together, but their requests differ.
    """
    trace = block.trace
    if trace is None or not trace.origin_unix_ns or not len(trace.due):
        return None
    return trace.origin_unix_ns, sha256(trace.due.tobytes() + trace.latency.tobytes()).digest()


def _doubted(
    stage: StageData, own: tuple[str, str], shared: Sequence[Sequence[tuple[str, str]]]
) -> StageData:
    others = {place for places in shared if own in places for place in places if place != own}
    if not others:
        return stage
    where = "; ".join(f"{variant}, {name}" for variant, name in sorted(others))
    doubt: Doubt = (
        "INVALID",
        f"blocks of it are also those of {where}: one of the two was not measured",
    )
    return replace(stage, findings=[*stage.findings, doubt])
