"""Files outside an experiment: vLLM options that name one are read; a long text names none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dyno.artifacts.external_contents import examples_sha256, read_externals
from dyno.experiment.schema import Experiment
from foundation.data.examples import Example, read_examples


def test_options_that_are_files_and_one_that_is_a_long_text(tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages }}")
    engine = {
        "chat-template": str(template),
        "hf-overrides": json.dumps({"note": "x." * 400}),
        "max-num-seqs": 8,
    }
    experiment = Experiment.model_validate(
        {
            "name": "t", "model": "base", "data": {"prompt": "Hi"}, "variants": [{"name": "base"}],
            "baseline": "base", "serve": {"engine": engine},
            "workload": {"stages": [{"concurrency": 1, "requests": 1}]},
        }
    )  # fmt: skip
    assert read_externals(experiment, {}, {}, {}, None).files == {
        str(template): hashlib.sha256(b"{{ messages }}").hexdigest()
    }


def conversation(folder: Path, *weights: int) -> list[Example]:
    """Two answers of the assistant, with these weights."""
    folder.mkdir()
    messages: list[dict[str, object]] = []
    for weight in weights:
        messages.append({"role": "user", "content": "Please?"})
        messages.append({"role": "assistant", "content": "Yes.", "weight": weight})
    (folder / "train.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    return read_examples(folder / "train.jsonl")


def test_which_answers_are_learned_belongs_to_what_examples_say(tmp_path: Path) -> None:
    all_pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    digests = {
        examples_sha256(conversation(tmp_path / str(n), *pair)) for n, pair in enumerate(all_pairs)
    }
    assert len(digests) == len(all_pairs)
    again = conversation(tmp_path / "again", 0, 1)
    assert examples_sha256(again) in digests
