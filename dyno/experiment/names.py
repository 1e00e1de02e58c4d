"""Checks the names within one experiment: unique regardless of case, and not reserved by dyno."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from foundation.names import GRID, twin
from foundation.run.layout import SEARCH
from foundation.run.records import PLAIN
from foundation.section import nearest

# Journals of dyno's own. A stage of the same name would share a prefix cache with them.
_STAGES = ("warm-up", "rate", "distil")
_BEGINNINGS = ("probe-", SEARCH)  # begin the names of stages that dyno adds
_PROBES = ("eval",)  # the set of the held-out data
_VARIANTS = ("finetune", "quantize")  # logs, and the folder of the experiment's adapter
_UNFINISHED = ".partial"  # ends the name of a folder until it is whole
_RESERVED = "is what dyno calls something of its own; write another"


def check_names(
    variants: Sequence[str], stages: Sequence[str], probes: Sequence[str], prompts: Iterable[str]
) -> None:
    """Raises ValueError with the field, the problem and what to write. `stages`: their labels."""
    for number, name in enumerate(variants):
        if name.casefold() in _VARIANTS or name.casefold().endswith(_UNFINISHED):
            raise ValueError(f"variants.{number}.name: {name!r} {_RESERVED}")
    for number, name in enumerate(stages):
        if name.casefold() in _STAGES or name.casefold().startswith(_BEGINNINGS):
            raise ValueError(f"workload.stages.{number}.name: {name!r} {_RESERVED}")
    for number, name in enumerate(probes):
        if name.casefold() in _PROBES:
            raise ValueError(
                f"quality.probes.{number}.name: {name!r} is the held-out data's own; write another"
            )
    if PLAIN in prompts:
        raise ValueError(
            f"prompts.{PLAIN}: {PLAIN!r} is what variants without a prompt are asked in; "
            "write another name"
        )
    for kind, names in (
        ("variants", variants),
        ("workload.stages", stages),
        ("quality.probes", probes),
    ):
        if twins := twin(names):
            first, second = twins
            if first == second:
                raise ValueError(f"{kind}: two are named {second!r}; give each its own name")
            raise ValueError(
                f"{kind}: {first!r} and {second!r} differ in case alone; give each its own name"
            )


def grids(variants: Iterable[str]) -> dict[str, int]:
    """How many of the variants each grid made, by the grid's name."""
    names = [
        grid for grid, is_of_grid, _ in (name.partition(GRID) for name in variants) if is_of_grid
    ]
    return dict(Counter(names))


def no_variant(name: str, variants: Sequence[str], what: str = "variant") -> str:
    """The error for a name that is none of the variants, with the names to write instead."""
    of_grid = [variant for variant in variants if variant.partition(GRID)[0] == name]
    if of_grid:
        return (
            f"{name!r} is a grid of {len(of_grid)} variants; write one of them, "
            f"such as {of_grid[0]!r}"
        )
    return f"{name!r} is no {what}{nearest(name, variants)}"
