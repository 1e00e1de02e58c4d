"""Which blocks a run still lacks, and in which order they are sent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from dyno.experiment.schema import Experiment
from dyno.pipeline.blocks import LoadBlock, MixedBlock, missing_blocks, stage_blocks
from dyno.pipeline.prepared import Prepared
from foundation.http.endpoint import Endpoint
from foundation.run.layout import RunDirectory
from foundation.run.records import Prompt
from loadgen.sending.nodes.node import Node

WHOLE = Path(__file__).resolve().parents[1] / "data/run-0.1/load/int8/probe-general/block-01.jsonl"
RATE = {"name": "open", "rate": 5, "requests": 4}
MIX = {"name": "both", "rate": 5, "requests": 4, "mix": "uniform"}


def prepared(where: Path, stages: list[dict[str, Any]], **sections: Any) -> Prepared:
    experiment = Experiment.model_validate(
        {
            "name": "x",
            "model": "model",
            "data": {"eval": "eval.jsonl"},
            "variants": [{"name": "a"}, {"name": "b"}],
            "baseline": "a",
            "workload": {"stages": stages, "blocks": 2},
            **sections,
        }
    )
    prompts = [
        Prompt(f"{group}-{n}", group, {"plain": [{"role": "user", "content": f"{n}?"}]})
        for group, count in (("eval", 3), ("facts", 2))
        for n in range(count)
    ]
    return Prepared(experiment, where, {}, [], [], prompts, None, {})


def written_whole(block: LoadBlock) -> None:
    """A whole journal, as if the block had been measured."""
    header, _, rest = WHOLE.read_text().partition("\n")
    block.journal.parent.mkdir(parents=True, exist_ok=True)
    fields = json.loads(header) | {"identity": block.identity}
    block.journal.write_text(f"{json.dumps(fields)}\n{rest}")


def places(blocks: list[LoadBlock | MixedBlock]) -> list[tuple[str, str, int]]:
    return [(block.variant, block.stage.label, block.block) for block in blocks]


def test_blocks_come_by_stage_and_in_turns_and_probes_last(tmp_path: Path) -> None:
    probes = {
        "quality": {"scorer": "exact_match", "probes": [{"name": "facts", "data": "f.jsonl"}]}
    }
    loop = {"name": "loop", "concurrency": 2, "requests": 4}
    run = RunDirectory(tmp_path / "run")
    blocks = missing_blocks(prepared(tmp_path, [RATE, loop], **probes), ["a", "b"], run)
    order = places(blocks)
    stages = [stage for _, stage, _ in order]
    assert stages == ["open"] * 4 + ["loop"] * 4 + ["probe-facts"] * 2
    for start in (0, 2, 4, 6, 8):
        assert {variant for variant, *_ in order[start : start + 2]} == {"a", "b"}
    assert [block for *_, block in order] == [1, 1, 2, 2, 1, 1, 2, 2, 1, 1]
    asked = [len(block.questions) for block in blocks if isinstance(block, LoadBlock)]
    assert asked == [3] * 8 + [2] * 2


def test_what_is_whole_and_still_asked_for_is_not_measured_again(tmp_path: Path) -> None:
    run, of = RunDirectory(tmp_path / "run"), prepared(tmp_path, [RATE])
    first, second, *_ = missing_blocks(of, ["a", "b"], run)
    assert isinstance(first, LoadBlock) and isinstance(second, LoadBlock)
    written_whole(first)
    second.journal.parent.mkdir(parents=True)
    second.journal.write_text(WHOLE.read_text().partition("\n")[0])  # cut off, of no identity
    left = places(missing_blocks(of, ["a", "b"], run))
    assert len(left) == 3 and places([first])[0] not in left and places([second])[0] in left
    other = prepared(tmp_path, [RATE | {"rate": 6}])
    assert len(missing_blocks(other, ["a", "b"], run)) == 4


def test_a_mix_is_measured_again_with_all_its_variants(tmp_path: Path) -> None:
    run, of = RunDirectory(tmp_path / "run"), prepared(tmp_path, [MIX])
    stage = of.experiment.workload.stages[0]
    blocks = stage_blocks(of, ["a", "b"], run, stage, 2)
    assert [type(block) for block in blocks] == [MixedBlock, MixedBlock]
    first, second = blocks
    assert isinstance(first, MixedBlock) and isinstance(second, MixedBlock)
    for block in first.blocks:
        written_whole(block)
    written_whole(second.blocks[0])
    (left,) = stage_blocks(of, ["a", "b"], run, stage, 2)
    assert left.block == 2 and sorted(left.journals) == ["a", "b"]
    for block in second.blocks:
        written_whole(block)
    assert stage_blocks(of, ["a", "b"], run, stage, 2) == []


@pytest.mark.parametrize("failed", [[], ["a"], ["b"], ["a", "b"]])
def test_variants_whose_server_failed_are_left_out(tmp_path: Path, failed: list[str]) -> None:
    run = RunDirectory(tmp_path / "run")
    single = prepared(tmp_path, [RATE])
    blocks = missing_blocks(single, ["a", "b"], run)
    left = [block.variant for block in blocks if block.without(failed)]
    assert set(left) == {"a", "b"} - set(failed)
    (mix, *_) = missing_blocks(prepared(tmp_path, [MIX]), ["a", "b"], run)
    rest = mix.without(failed)
    assert sorted(rest.journals if rest else []) == sorted({"a", "b"} - set(failed))


def test_a_load_on_one_engine_is_sent_by_one_machine(tmp_path: Path) -> None:
    """Its stamps show the engine's steps, so they must be of one clock."""
    of = prepared(tmp_path, [RATE])
    stage = of.experiment.workload.stages[0]
    [block] = stage_blocks(of, ["a"], RunDirectory(tmp_path / "run"), stage, 1)
    assert isinstance(block, LoadBlock)
    endpoints = {"a": Endpoint("a", "http://127.0.0.1:1/v1", "m")}
    nodes = [cast(Node, object())] * 2
    assert [
        len(each.plan(endpoints, nodes).nodes) for each in (block, replace(block, on_one=True))
    ] == [2, 0]
