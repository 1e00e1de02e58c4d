"""What an experiment's `data` says is what is learned and asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyno.experiment.data import check_requests, read_data, read_probe
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.errors import BadInput
from foundation.progress import Silent

TRAINED = "finetune: {rank: 4}\n"
TOOLS = [{"type": "function", "function": {"name": "open"}}]
CALL = {"role": "assistant", "content": None, "tool_calls": TOOLS}


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


def experiment(folder: Path, data: str = "", more: str = TRAINED) -> Experiment:
    file = folder / "experiment.yaml"
    file.write_text(
        f"name: t\nmodel: m\ndata: {{train: train.jsonl, eval: eval.jsonl{data}}}\n{more}"
        "variants:\n  - {name: base, url: http://127.0.0.1:1/v1, model: m}\nbaseline: base\n"
        "workload: {stages: [{rate: 5, requests: 10}]}\n"
    )
    return load_experiment(file)


def write(file: Path, *rows: Any, encoding: str = "utf-8") -> None:
    file.write_bytes(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)
    )


def asked(question: str, answer: str = "A", **more: Any) -> dict[str, Any]:
    return {"prompt": question, "completion": answer, **more}


def test_ignore_and_encoding_count_for_both_files_and_ignore_for_probes(tmp_path: Path) -> None:
    probes = "quality: {probes: [{name: p, data: probe.jsonl, scorer: exact_match, requests: 1}]}\n"
    loaded = experiment(tmp_path, ", ignore: [lang], encoding: utf-16", TRAINED + probes)
    write(tmp_path / "train.jsonl", asked("é", lang="fr"), encoding="utf-16")
    write(tmp_path / "eval.jsonl", asked("ü", lang="de"), encoding="utf-16")
    write(tmp_path / "probe.jsonl", asked("ö", lang="de"), asked("ä"))
    train, heldout = read_data(loaded, tmp_path, Silent())
    probe = read_probe(loaded, loaded.quality.probes[0], tmp_path, Silent())
    assert [e.fields["prompt"] for e in (*train, *heldout, *probe)] == ["é", "ü", "ö"]
    with pytest.raises(
        BadInput, match=r"train.jsonl:1: nothing reads lang .*data.ignore: \[lang\]"
    ):
        read_data(experiment(tmp_path, ", encoding: utf-16"), tmp_path, Silent())
    with pytest.raises(BadInput, match=r"data.encoding: 'utf-99' is no text encoding"):
        experiment(tmp_path, ", encoding: utf-99")


def test_a_column_that_a_prompt_names_needs_no_mention(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", asked("Q1", title="T"))
    write(tmp_path / "eval.jsonl", asked("Q2", title="T"))
    loaded = experiment(tmp_path, more=TRAINED + "prompts: {titled: '{title}: {input}'}\n")
    train, _ = read_data(loaded, tmp_path, Silent())
    assert train[0].fields["title"] == "T"


def test_a_leak_is_refused_dropped_or_allowed(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", asked("Q1"), asked("Q2"))
    write(tmp_path / "eval.jsonl", asked("q2"))
    with pytest.raises(
        BadInput,
        match=r"train.jsonl:2: the same question stands in the held-out split at .*eval.jsonl:1",
    ):
        read_data(experiment(tmp_path), tmp_path, Silent())
    for on_leak, learned in (("drop", [1]), ("allow", [1, 2])):
        heard = Heard()
        train, heldout = read_data(experiment(tmp_path, f", on_leak: {on_leak}"), tmp_path, heard)
        assert ([e.line for e in train], len(heldout)) == (learned, 1)
        assert len(heard.lines) == 1 and "train.jsonl:2" in heard.lines[0]


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ("", False),
        (TRAINED, True),
        ("quality: {min: 80%}\n", True),
        ("quality: {max_drop: 1%}\n", True),
        ("quality: {scorer: json_valid, min: 80%}\n", False),
    ],
)
def test_questions_need_answers_where_something_is_held_against_them(
    tmp_path: Path, more: str, needed: bool
) -> None:
    write(tmp_path / "train.jsonl", asked("Q1"))
    write(
        tmp_path / "eval.jsonl", {"prompt": "Q2"}, {"messages": [{"role": "user", "content": "Q3"}]}
    )
    loaded = experiment(tmp_path, more=more)
    if needed:
        with pytest.raises(BadInput, match=r"eval.jsonl:1: fields prompt; write"):
            read_data(loaded, tmp_path, Silent())
    else:
        _, heldout = read_data(loaded, tmp_path, Silent())
        check_requests(loaded.quality, "quality", heldout)
        assert [e.reference for e in heldout] == [None, None]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"messages": [{"role": "user", "content": "Q"}, CALL], "tools": TOOLS},
            "tools: a load asks for texts",
        ),
        ({"messages": [{"role": "user", "content": "Q"}, CALL]}, "tools: a load asks for texts"),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q"},
                    CALL,
                    {"role": "tool", "content": "x"},
                    {"role": "assistant", "content": "A"},
                ]
            },
            "tools: a load asks for texts",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q"},
                    {"role": "assistant", "content": "A", "weight": 0},
                ]
            },
            "the answer has weight 0, so it is no reference",
        ),
    ],
)
def test_what_a_load_can_not_ask_is_refused_where_it_is_asked(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    write(tmp_path / "train.jsonl", asked("Q1"))
    write(tmp_path / "eval.jsonl", asked("Q2"), row)
    loaded = experiment(tmp_path)
    _, heldout = read_data(loaded, tmp_path, Silent())
    with pytest.raises(BadInput, match=f"eval.jsonl:2: {says}"):
        check_requests(loaded.quality, "quality", heldout)


def test_a_teacher_is_asked_for_texts_too(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"messages": [{"role": "user", "content": "Q1"}, CALL]})
    write(tmp_path / "eval.jsonl", asked("Q2"))
    loaded = experiment(tmp_path)
    student = VariantConfig(name="s", distil="base", model="m")
    taught = loaded.model_copy(update={"variants": (*loaded.variants, student)})
    with pytest.raises(BadInput, match=r"train.jsonl:1: tools: a load asks for texts"):
        read_data(taught, tmp_path, Silent())
