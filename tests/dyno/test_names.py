"""Names are parts of paths, never paths; each is unique even where letters have no case."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.pipeline.blocks import probe_load
from foundation.errors import BadInput
from foundation.names import checked_name, name_from, twin
from foundation.run.records import Prompt
from loadgen.config import Stage
from tests.dyno.stored_runs import dyno

EXPERIMENT = """\
name: {run}
model: m
data: {{eval: data.jsonl}}
prompts: {{{prompt}: "Say {{prompt}}"}}
variants:
  - {{name: {variant}, url: "http://127.0.0.1:9/v1", model: m}}
  - {{name: second, url: "http://127.0.0.1:9/v1", model: m}}
baseline: second
workload: {{stages: [{{name: {stage}, concurrency: 2, requests: 6}}, \
{{name: other, concurrency: 3, requests: 6}}]}}
quality: {{scorer: exact_match, probes: [{{name: {probe}, data: data.jsonl}}]}}
"""
FINE = {"run": "news", "prompt": "short", "variant": "base", "stage": "steady", "probe": "facts"}
NO_NAMES = (
    "../../ESCAPED/x",
    "a/b",
    "/etc/x",
    "..",
    ".hidden",
    "-rf",
    "a b",
    '"a\\0b"',
    '"a\\n"',
    "日本",
    "x" * 101,
)
LINES = {
    "run": (1, "name"),
    "variant": (6, "variants.0.name"),
    "stage": (9, "workload.stages.0.name"),
}
LINES["probe"] = (10, "quality.probes.0.name")


def told(folder: Path, **names: str) -> str:
    file = folder / "e.yaml"
    file.write_text(EXPERIMENT.format(**{**FINE, **names}))
    with pytest.raises(BadInput) as error:
        load_experiment(file)
    return str(error.value).removeprefix(f"{file}:")


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("what", LINES)
def test_what_is_no_name_is_refused_where_it_stands(tmp_path: Path, what: str, name: str) -> None:
    line, field = LINES[what]
    said = told(tmp_path, **{what: name})
    assert (
        said.startswith(f"{line}: {field}: ") and "write letters, digits, '.', '_' and '-'" in said
    ), said
    assert len(said) < 250 and "\n" not in said


@pytest.mark.parametrize(
    ("what", "name", "says"),
    [
        (
            "variant",
            "finetune",
            "6: variants.0.name: 'finetune' is what dyno calls something of its own",
        ),
        (
            "variant",
            "Quantize",
            "6: variants.0.name: 'Quantize' is what dyno calls something of its own",
        ),
        ("variant", "second.partial", "6: variants.0.name: 'second.partial' is what dyno calls"),
        (
            "variant",
            "Second",
            "5: variants: 'Second' and 'second' differ in case alone; give each its own name",
        ),
        ("variant", "second", "5: variants: two are named 'second'; give each its own name"),
        (
            "stage",
            "warm-up",
            "9: workload.stages.0.name: 'warm-up' is what dyno calls something of its own",
        ),
        (
            "stage",
            "Rate",
            "9: workload.stages.0.name: 'Rate' is what dyno calls something of its own",
        ),
        ("stage", "probe-facts", "9: workload.stages.0.name: 'probe-facts' is what dyno calls"),
        ("stage", "OTHER", "9: workload.stages: 'OTHER' and 'other' differ in case alone"),
        ("probe", "eval", "10: quality.probes.0.name: 'eval' is the held-out data's own"),
        ("probe", "Eval", "10: quality.probes.0.name: 'Eval' is the held-out data's own"),
        (
            "prompt",
            "plain",
            "4: prompts.plain: 'plain' is what variants without a prompt are asked in",
        ),
    ],
)
def test_a_name_of_something_else_is_refused(
    tmp_path: Path, what: str, name: str, says: str
) -> None:
    assert told(tmp_path, **{what: name}).startswith(says)


def test_a_variant_is_not_named_like_the_wording_that_all_of_them_are_asked_in(
    tmp_path: Path,
) -> None:
    """A variant's own wording bears its name, where its server counts otherwise."""
    file = tmp_path / "e.yaml"
    text = EXPERIMENT.format(**{**FINE, "variant": "plain"})
    file.write_text(text)
    load_experiment(file)
    dataset = "{dataset: {synthetic: {input_tokens: 8, output_tokens: 2}}, stages: "
    file.write_text(text.replace("{stages: ", dataset))
    with pytest.raises(
        BadInput, match=r"6: variants\.0\.name: 'plain' is how a dataset's prompts are worded"
    ):
        load_experiment(file)


def test_the_longest_names_are_taken(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(EXPERIMENT.format(**dict.fromkeys(FINE, "x" * 100)))
    experiment = load_experiment(tmp_path / "e.yaml")
    stage, _ = probe_load(
        experiment.quality.probes[0], [Prompt("x", "x" * 100, {})], experiment.workload
    )
    assert stage.label == f"probe-{'x' * 100}"


def test_the_name_of_a_load_is_one_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = (
        "--url",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--concurrency",
        "1",
        "--requests",
        "2",
        "--prompt",
        "hi",
    )
    for name in ("../x", "a/b", "x" * 101):
        code, _, error = dyno(capsys, monkeypatch, "load", *asked, "--name", name)
        assert code == 3 and error.startswith("error: --name: ") and error.count("\n") == 1, error
    assert list(tmp_path.iterdir()) == []


def test_a_stage_is_named_by_its_recording_as_far_as_a_name_goes() -> None:
    assert (
        Stage.model_validate({"trace": {"file": "day 1 (½).jsonl"}, "requests": 3}).label
        == "trace-day-1----"
    )
    label = Stage.model_validate({"trace": {"file": f"{'y' * 240}.jsonl"}, "requests": 3}).label
    assert label == f"trace-{'y' * 94}" == checked_name(label)
    assert name_from("../../x") == "..-..-x"


def test_twins() -> None:
    assert twin(["a", "B", "c"]) is None
    assert twin(["a", "B", "b", "A"]) == ("B", "b")
    assert twin(["ﬀ", "FF"]) == ("ﬀ", "FF")
