"""What an experiment rests on: files that options of vLLM name are read, and a long text is no name of one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dyno.artifacts.outside import look
from dyno.experiment.schema import Experiment


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
            "name": "t", "model": "base", "data": {"prompt": "Hi"}, "variants": [{"name": "base"}], "baseline": "base",
            "serve": {"engine": engine}, "workload": {"stages": [{"concurrency": 1, "requests": 1}]},
        }
    )  # fmt: skip
    assert look(experiment, {}, {}, {}, None).files == {
        str(template): hashlib.sha256(b"{{ messages }}").hexdigest()
    }
