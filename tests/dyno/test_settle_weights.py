"""An artifact that differs when it is made again: nothing that used the first is mixed with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec.structs import replace as replace_fields

from dyno.artifacts.externals import Externals
from dyno.artifacts.resume import (
    changes,
    keep_prompts,
    reconcile,
    settle_weights,
    with_earlier_measurements,
)
from dyno.artifacts.stored import making, mark
from dyno.experiment.schema import Experiment
from dyno.pipeline import relative_rates
from dyno.pipeline.prepared import Prepared
from foundation.models.model import ModelRef
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from foundation.run.records import Prompt
from loadgen.config import WorkloadConfig
from loadgen.prompts.exact_length import Correction

EXTERNALS = Externals(models={"base": {"model.safetensors": "a" * 64}}, data={"train": "b" * 64})


def prepared(folder: Path, rank: int = 16, *more: dict[str, Any]) -> Prepared:
    experiment = Experiment.model_validate(
        {
            "name": "t", "model": "base", "data": {"prompt": "Hi", "train": "t.jsonl"},
            "finetune": {"rank": rank}, "variants": [{"name": "base"},
                {"name": "merged", "merge": "finetune"}, *more], "baseline": "base",
            "workload": {"stages": [{"name": "s", "concurrency": 1, "requests": 1}], "blocks": 1},
        }
    )  # fmt: skip
    model = ModelRef("base", None, folder / "base")
    return Prepared(experiment, folder, {"base": model}, [], [], [], None, {}, EXTERNALS)


def make(of: Prepared, run: RunDirectory, weights: bytes) -> None:
    for artifact in of.graph.folders:
        if not (run.path / of.graph.place(artifact)).exists():
            with making(run, of.graph.place(artifact), artifact) as out:
                (out / "model.safetensors").write_bytes(weights)


def measure(of: Prepared, run: RunDirectory) -> None:
    for folder, artifact in of.graph.measurements().items():
        file = run.path / folder / "block-01.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "schema_version": 1, "variant": folder.split("/")[1], "stage": "s", "block": 1,
            "seed": 0, "transport": "socket", "clock": "user", "origin_monotonic_ns": 0,
            "origin_unix_ns": 0, "model": "m", "prompt_style": "plain",
            "api": "chat", "arrivals": "closed", "offered_rate": None, "concurrency": 1,
            "planned": 1, "window_start_ns": 0, "window_end_ns": None,
            "identity": artifact.identity,
        }  # fmt: skip
        file.write_text(json.dumps(header) + "\n")


def journals(run: RunDirectory) -> set[str]:
    return {
        str(file.relative_to(run.path).parent)
        for file in (run.path / "load").rglob("block-*.jsonl")
    }


def test_an_adapter_that_was_lost_and_came_out_otherwise_is_merged_and_measured_again(
    tmp_path: Path,
) -> None:
    run, of = RunDirectory(tmp_path / "run"), prepared(tmp_path)
    run.path.mkdir()
    reconcile(of, run, Silent())
    make(of, run, b"first")
    assert not settle_weights(of, run, Silent())
    measure(of, run)

    # Made again and the same: nothing more.
    (run.path / "adapters/finetune").rename(tmp_path / "lost")
    make(of, run, b"first")
    assert not settle_weights(of, run, Silent())
    assert journals(run) == {"load/base/s", "load/merged/s"}

    # Made again and another: what rests on it goes, what does not stays.
    (run.path / "adapters/finetune").rename(tmp_path / "lost again")
    make(of, run, b"second")
    assert settle_weights(of, run, Silent())
    assert not (run.path / "checkpoints/merged-finetune").exists()
    assert journals(run) == {"load/base/s"}
    make(of, run, b"second")
    settle_weights(of, run, Silent())
    assert journals(run) == {"load/base/s"}
    measure(of, run)
    assert not settle_weights(of, run, Silent())
    assert journals(run) == {"load/base/s", "load/merged/s"}


def test_what_is_quantized_and_learned_of_it_goes_too_and_is_made_once(tmp_path: Path) -> None:
    """A quantized checkpoint is served without the merged one that it was made from."""
    small = {"name": "small", "merge": "finetune", "quantize": "w8a8-int8"}
    taught = {"name": "taught", "prune": "50%", "distil": "small"}
    run, of = RunDirectory(tmp_path / "run"), prepared(tmp_path, 16, small, taught)
    run.path.mkdir()
    reconcile(of, run, Silent())
    make(of, run, b"first")
    assert not settle_weights(of, run, Silent())
    measure(of, run)
    answers = run.path / "distil/taught.jsonl"
    answers.parent.mkdir()
    answers.write_text("those of the first")

    (run.path / "adapters/finetune").rename(tmp_path / "lost")
    make(of, run, b"second")
    assert settle_weights(of, run, Silent())
    left = {
        str(path.relative_to(run.path))
        for kind in ("adapters", "checkpoints")
        for path in (run.path / kind).iterdir()
    }
    assert left == {"adapters/finetune", "checkpoints/taught-pruned"}
    assert not answers.exists() and journals(run) == {"load/base/s"}
    make(of, run, b"second")
    assert not settle_weights(of, run, Silent())


def test_what_a_try_measured_for_itself_is_no_change_of_what_is_asked(tmp_path: Path) -> None:
    """Prompts cut by a server's count and relative rates: a resumed run names no change."""
    run, of = RunDirectory(tmp_path / "run"), prepared(tmp_path)
    run.path.mkdir()
    stage = {"name": "s", "rate": {"of": "base", "share": 0.5}, "requests": 1}
    workload = WorkloadConfig.model_validate({"stages": [stage], "blocks": 1})
    asked = [Prompt("0", "eval", {"plain": [{"role": "user", "content": "a b"}]}, input_tokens=2)]
    of = replace(
        of, prompts=asked, experiment=of.experiment.model_copy(update={"workload": workload})
    )
    reconcile(of, run, Silent())
    keep_prompts(of, run)
    own = {"plain": asked[0].messages["plain"], "base": [{"role": "user", "content": "a"}]}
    known = replace(
        of,
        prompts=[replace_fields(asked[0], messages=own)],
        corrections={"base": Correction(extra=1.0)},
    )
    keep_prompts(known, run)
    held = {"base": relative_rates.Throughput(requests_per_s=10.0, concurrency=4)}
    relative_rates.write_rates(relative_rates.stage_rates(held, of.experiment), run.rates)
    mark(run.rates, known.graph.rates)

    again = with_earlier_measurements(of, run)
    assert (
        again.rates == {"s": 5.0}
        and again.prompts == known.prompts
        and again.corrections == known.corrections
    )
    assert (
        again.graph.measurements()["load/base/s"].identity
        != of.graph.measurements()["load/base/s"].identity
    )
    assert changes(again, run) == []
    reconcile(again, run, Silent())
    other = replace(
        of,
        experiment=of.experiment.model_copy(
            update={"workload": workload.model_copy(update={"seed": 1})}
        ),
    )
    assert changes(with_earlier_measurements(other, run), run) == [
        "since run began: workload.seed: was 0, is 1"
    ]


def test_other_settings_are_another_thing_and_no_surprise(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    for rank, weights in ((16, b"first"), (8, b"second")):
        of = prepared(tmp_path, rank)
        reconcile(of, run, Silent())
        make(of, run, weights)
        assert not settle_weights(of, run, Silent())
        assert (run.path / "checkpoints/merged-finetune").exists()


def test_the_environment_is_a_second_witness(tmp_path: Path) -> None:
    """Journals with the right identity beside another machine's environment are measured again."""
    run, of = RunDirectory(tmp_path / "run"), prepared(tmp_path)
    run.path.mkdir()
    reconcile(of, run, Silent())
    measure(of, run)
    environment = {
        "hardware": {"cpu": "another"},
        "versions": {"vllm": "0.1"},
        "models": {},
        "seeds": {},
    }
    (run.path / "environment.json").write_text(json.dumps(environment))
    (run.path / "prompts.jsonl").write_text("{}\n")
    reconcile(of, run, Silent(), measures=False)
    assert (
        journals(run) == {"load/base/s", "load/merged/s"} and (run.path / "prompts.jsonl").exists()
    )
    reconcile(of, run, Silent())
    assert journals(run) == set() and not (run.path / "prompts.jsonl").exists()
