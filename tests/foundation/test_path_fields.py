"""One walk makes all marked paths of an experiment absolute; all fields of files are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from foundation.path_fields import PathField, path_exists, resolved
from foundation.section import Section

FILE = """\
name: paths
model: models/base
data: {train: ~/train.jsonl, eval: data/eval.jsonl}
finetune: {rank: 8}
variants:
  - {name: hub, model: org/name}
  - {name: home, adapter: ~/adapter}
  - {name: beside, merge: ./adapter}
  - {name: own, merge: finetune}
  - {name: far, url: "http://h/v1", model: models/base, request: {ca_file: certs/ca.pem}}
baseline: hub
serve:
  engine:
    {chat-template: chat.jinja, quantization: fp8, max-num-seqs: 4, tool-parser-plugin: ~/plugin.py}
workload:
  tokenizer: ../tok
  stages: [{rate: 2, requests: 5}, {trace: {file: ~/trace.jsonl}, duration: 5s}]
quality:
  scorer: exact_match
  probes: [{name: general, data: probe.jsonl}, {name: other, data: "hub:org/x:test"}]
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """The experiment above in `tmp_path/exp`, resolved; home is `tmp_path/home`."""
    folder = tmp_path / "exp"
    for name in ("models/base", "finetune", "fp8", "adapter", "../tok"):
        (folder / name).mkdir(parents=True)
    for name in ("chat.jinja", "probe.jsonl", "experiment.yaml"):
        (folder / name).write_text(FILE)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return resolved(load_experiment(folder / "experiment.yaml"), folder)


def test_paths_of_every_section_are_absolute(there: Experiment, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "exp"
    hub, at_home, beside, own, far = there.variants
    assert there.model == str(folder / "models/base")
    # There is no such file yet, and it may be the name of something else: who reads it says so.
    assert (there.data.train, there.data.eval) == (str(home / "train.jsonl"), "data/eval.jsonl")
    assert (hub.model, at_home.adapter, beside.merge) == (
        "org/name",
        str(home / "adapter"),
        str(folder / "adapter"),
    )
    assert own.merge == "finetune"
    assert far.request is not None and far.request.ca_file == folder / "certs/ca.pem"
    assert there.serve.engine == {
        "chat-template": str(folder / "chat.jinja"), "quantization": "fp8", "max-num-seqs": 4,
        "tool-parser-plugin": str(home / "plugin.py"),
    }  # fmt: skip
    assert there.workload.tokenizer == str(tmp_path / "tok")
    assert (
        there.workload.stages[1].trace is not None
        and there.workload.stages[1].trace.file == home / "trace.jsonl"
    )
    assert [probe.data for probe in there.quality.probes] == [
        str(folder / "probe.jsonl"),
        "hub:org/x:test",
    ]


def test_a_resolved_experiment_means_the_same_from_any_folder(
    there: Experiment, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/experiment.yaml").write_text(there.as_yaml())
    again = load_experiment(tmp_path / "run/experiment.yaml")
    assert resolved(again, tmp_path / "run") == again == there


def test_an_unknown_user_and_odd_names_are_names(tmp_path: Path) -> None:
    place = PathField(or_name=True)
    for name in ("~nobody-of-this-name/x", "x" * 5_000, "a\0b", ""):
        assert str(place.absolute(name, tmp_path)).endswith(name)


def fields(section: type[Section], at: str = "") -> dict[str, Any]:
    """Every field of a section and of those within it, by its path."""
    every: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        every[f"{at}{name}"] = field
        for inner in sections(field.annotation):
            every |= fields(inner, f"{at}{name}.")
    return every


def sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [each for inner in get_args(annotation) for each in sections(inner)]


def test_every_field_that_names_a_file_is_marked() -> None:
    """A field whose name speaks of files, or whose type is a Path."""
    speaking = (
        "file",
        "path",
        "folder",
        "template",
        "tokenizer",
        "model",
        "adapter",
        "merge",
        "train",
        "eval",
    )
    unmarked = [
        path
        for path, field in fields(Experiment).items()
        if ("Path" in repr(field.annotation) or path.rpartition(".")[2] in speaking)
        and "PathField" not in repr(field)
        if field.annotation is not bool and not sections(field.annotation)
    ]
    assert unmarked == []


def test_a_text_is_the_name_of_a_file_only_where_there_is_one(tmp_path: Path) -> None:
    assert path_exists(tmp_path)
    assert [path_exists(Path(name)) for name in ("x" * 5_000, "a\0b", "/no/such/file")] == [
        False,
        False,
        False,
    ]
