"""Whether the file that a run was started from means something else by now."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.artifacts.record import Record, edit_warning, source_of, write_record
from dyno.experiment.loading import load_experiment
from foundation.path_fields import resolved
from foundation.run.layout import RunDirectory

FILE = """\
name: t
model: org/m
data: {prompt: Hi}
variants: [{name: a}]
baseline: a
workload: {stages: [{concurrency: 1, requests: 5}], blocks: 1}
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FILE, None),
        (f"# a remark\n{FILE}", None),
        (FILE.replace("requests: 5", "requests: 6"), "requests"),
        (FILE.replace("name: t", "nam: t"), "it can't be read now"),
        (None, None),
    ],
)
def test_an_edit_is_said_where_it_changes_what_is_asked(
    tmp_path: Path, text: str | None, says: str | None
) -> None:
    file, run = tmp_path / "experiment.yaml", RunDirectory(tmp_path / "run")
    run.path.mkdir()
    file.write_text(FILE)
    experiment = resolved(load_experiment(file), tmp_path)
    assert edit_warning(run, experiment) is None  # nobody knows where the run came from
    write_record(run, Record(source=source_of(file)))
    file.unlink() if text is None else file.write_text(text)
    said = edit_warning(run, experiment)
    if says is None:
        assert said is None
    else:
        assert said is not None and "was edited since this run began" in said and says in said
