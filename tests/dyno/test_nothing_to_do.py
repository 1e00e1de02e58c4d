"""A command that has nothing to do says so, and begins no run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dyno.stored_runs import dyno

ELSEWHERE = """\
name: elsewhere
model: none
data: {prompt: Q}
variants: [{name: a, url: "http://127.0.0.1:9/v1", model: m}]
baseline: a
workload: {stages: [{rate: 5, requests: 10}], blocks: 1}
"""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["quantize"], "nothing to write: no variant is merged, pruned, distilled or quantized"),
        (["quantize", "--variant", "a"], "nothing to write: no variant of a is merged"),
        (["finetune"], "there is no section finetune"),
    ],
)
def test_nothing_to_make_is_bad_input_and_leaves_no_folder(
    command: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(ELSEWHERE)
    code, _, error = dyno(capsys, monkeypatch, command[0], "e.yaml", *command[1:])
    assert (code, words in error) == (3, True), error
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_urls_shows_no_table_of_servers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(ELSEWHERE)
    code, printed, _ = dyno(capsys, monkeypatch, "run", "e.yaml", "--dry-run")
    assert code == 0
    assert "Servers" not in printed
    assert printed.rstrip().endswith("everything checks out; nothing was started nor asked")


def test_a_pilot_that_is_no_run_is_refused_before_anything_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(ELSEWHERE)
    code, printed, error = dyno(
        capsys, monkeypatch, "run", "e.yaml", "--dry-run", "--pilot", str(tmp_path)
    )
    assert code == 3 and "not a run directory" in error
    assert "Artifacts" not in printed
