"""An experiment's trainings: refused where impossible, resumed, and students of a teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.prepare import prepare
from dyno.pipeline.training import make_adapters
from foundation.errors import BadInput
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from tests.tiny_model import build_tiny_model

EXPERIMENT = """\
name: trial
model: model
data: {{train: train.csv, eval: eval.jsonl, columns: {{prompt: q, completion: a}}}}
finetune: {{{finetune}}}
variants:
  - {{name: base}}
  - {variant}
baseline: base
serve: {{max_model_len: 512, enforce_eager: true}}
workload: {{stages: [{{rate: 5, requests: 10}}], blocks: 1}}
"""


def write(
    folder: Path,
    variant: str,
    finetune: str = "rank: 4, epochs: 2, batch_size: 8, learning_rate: 0.01",
) -> Path:
    build_tiny_model(folder / "model", layers=4)
    (folder / "train.csv").write_text(
        "q,a\n" + "".join(f"word {chr(97 + i)},{'xyz'[i % 3]}\n" for i in range(16))
    )
    (folder / "eval.jsonl").write_text(
        "".join(json.dumps({"q": f"other {c}", "a": c}) + "\n" for c in "xyz")
    )
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(variant=variant, finetune=finetune))
    return folder / "experiment.yaml"


@pytest.mark.parametrize(
    ("variant", "finetune", "message"),
    [
        (
            "{name: t, adapter: finetune}",
            "method: dora",
            r"variants\.1\.adapter: vLLM does not serve DoRA .*; write merge",
        ),
        (
            "{name: t, adapter: finetune}",
            "modules_to_save: [norm]",
            r"adapter: .*whole modules \(norm\); write merge",
        ),
        ("{name: t, merge: finetune/epoch-3}", "epochs: 2", r"variants\.1\.merge: epoch 3 of 2"),
        ("{name: t, prune: 25%, merge: finetune}", "", "leave out adapter and merge"),
        ("{name: t, distil: base}", "", "distil teaches a smaller model: write which"),
        (
            "{name: t, distil: bse, prune: 50%}",
            "",
            r"variants\.1\.distil: 'bse' is no variant .*did you mean 'base'",
        ),
        ("{name: t}", "method: lora, base_format: int8", "int8 belongs to method: qlora"),
        ("{name: t}", "method: pissa, modules_to_save: [norm]", "modules_to_save: a pissa adapter"),
        (
            "{name: t}",
            "eval_limit: 0, patience: 1",
            "patience, eval_steps and watch: score need held-out examples",
        ),
    ],
)
def test_what_can_not_be_trained_or_served_is_refused(
    tmp_path: Path, variant: str, finetune: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        load_experiment(write(tmp_path, variant, finetune))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["dora", "pissa"])
def test_a_method_that_no_server_takes_is_merged(tmp_path: Path, method: str) -> None:
    file = write(
        tmp_path,
        "{name: t, merge: finetune/epoch-1}",
        f"method: {method}, rank: 4, epochs: 2, batch_size: 8",
    )
    prepared = prepare(load_experiment(file), tmp_path, Silent())
    run = RunDirectory(tmp_path / "run")
    make_adapters(prepared, run, Silent())
    [made] = make_checkpoints(prepared, run, Silent()).values()
    recipe = json.loads((made.path / "recipe.json").read_text())
    assert made.path.name == "merged-finetune-epoch-1" and recipe["logit_difference"]["max"] < 0.1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_student_is_pruned_taught_what_its_teacher_said_and_merged(
    tmp_path: Path, url: str
) -> None:
    file = write(
        tmp_path,
        f"{{name: far, url: {url}, model: m}}\n  - {{name: student, prune: 50%, distil: far}}",
    )
    prepared = prepare(load_experiment(file), tmp_path, Silent())
    run = RunDirectory(tmp_path / "run")
    [made] = make_checkpoints(prepared, run, Silent()).values()
    assert made.path == run.path / "checkpoints" / "merged-student"
    assert json.loads((made.path / "config.json").read_text())["num_hidden_layers"] == 2
    assert (
        len(
            json.loads((run.path / "checkpoints" / "student-pruned" / "prune.json").read_text())[
                "dropped"
            ]
        )
        == 2
    )
    journal = [
        json.loads(line)
        for line in (run.path / "distil" / "student.jsonl").read_text().splitlines()
    ]
    answers = {line["prompt_id"]: line["text"] for line in journal if "prompt_id" in line}
    assert len(answers) == 16 and all(answers.values())
    card = (run.path / "adapters" / "student" / "README.md").read_text()
    assert "16 examples" in card
    report = (run.path / "adapters" / "student" / "data-report.md").read_text()
    assert (
        answers["0"].strip() in report
    )  # its sample shows what is learned: the teacher's words, not the data's
    before = made.path.stat().st_mtime_ns
    assert make_checkpoints(prepared, run, Silent())["student"].path.stat().st_mtime_ns == before
