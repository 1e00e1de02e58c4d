"""The folders of checkpoints: one for each content, whatever it is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dyno.artifacts.externals import Externals
from tests.dyno.test_graph import EXPERIMENT, EXTERNALS, graph


def folders(*variants: dict[str, Any], externals: Externals = EXTERNALS) -> list[str]:
    made = graph(
        {**EXPERIMENT, "variants": list(variants), "baseline": variants[0]["name"]},
        externals=externals,
    )
    return [made.place(each) for each in made.folders]


def test_two_adapters_of_one_name_are_two_checkpoints() -> None:
    merged = [
        {"name": "one", "merge": "a/checkpoint-500"},
        {"name": "two", "merge": "b/checkpoint-500"},
    ]
    [_, one, two] = folders(*merged)
    assert one != two and {one[:34], two[:34]} == {"checkpoints/merged-checkpoint-500-"}
    # Contents tell, not names: the same adapter in two places is one checkpoint.
    [_, one, two] = folders(
        *merged,
        externals=replace(
            EXTERNALS, adapters={name: {"w": "a" * 64} for name in EXTERNALS.adapters}
        ),
    )
    assert one == two == "checkpoints/merged-checkpoint-500"


def test_one_adapter_on_two_bases_is_two_checkpoints() -> None:
    models = {**EXTERNALS.models, "other": {"model.safetensors": "e" * 64}}
    merged = [
        {"name": "one", "merge": "a/checkpoint-500"},
        {"name": "two", "model": "other", "merge": "a/checkpoint-500"},
    ]
    [_, one, two] = folders(*merged, externals=replace(EXTERNALS, models=models))
    assert one != two


@pytest.mark.parametrize(
    "name", ["merged-default", "merged-finetune", "small-pruned", "merged-small"]
)
def test_no_name_of_a_variant_collides(name: str) -> None:
    adapters = {"default": {"w": "a" * 64}}
    several = [
        {"name": name, "quantize": "w8a8-int8"},
        {"name": "theirs", "merge": "default"},
        {"name": "ours", "merge": "finetune"},
        {"name": "small", "prune": "50%"},
    ]
    found = folders(*several, externals=replace(EXTERNALS, adapters=adapters))
    assert len(set(found)) == len(found) and f"checkpoints/{name}" in found
