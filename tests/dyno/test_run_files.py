"""Damaged files beside the journals of a run: one line for a person, or a note, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyno.pipeline.environment import note_requests
from foundation.run.json_files import read_environment
from tests.dyno.stored_runs import StoredRun, dyno

MADE = StoredRun(blocks=2, variants=("a", "b"))
DAMAGE = {
    "empty": b"",
    "cut": b'{"name": [',
    "zeros": b"\0\0\0\0",
    "a number": b"7",
    "deep": b"[" * 9_000,
    "half a letter": b'"\xc3',
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_environment_is_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run = MADE.write(tmp_path / "run")
    (run / "environment.json").write_bytes(DAMAGE[kind])
    code, _, error = dyno(capsys, monkeypatch, "report", str(run))
    assert code == 0, error
    (note,) = (
        n
        for n in json.loads((run / "summary.json").read_text())["notes"]
        if "environment.json" in n
    )
    assert note.startswith("environment.json: can't be read (") and "are not known" in note
    assert note in (run / "report.html").read_text().replace("&#39;", "'").replace("&#34;", '"')


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_variants_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run = MADE.write(tmp_path / "run")
    (run / "variants.json").write_bytes(DAMAGE[kind])
    code, _, error = dyno(capsys, monkeypatch, "report", str(run))
    assert code == 3
    assert (
        error.startswith(f"error: {run}/variants.json: can't be read (") and error.count("\n") == 1
    )
    assert "--resume" in error


@pytest.mark.parametrize("kind", DAMAGE)
def test_everything_else_may_be_damaged_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run = MADE.write(tmp_path / "run")
    names = [
        "calibration.json", "telemetry/a.parquet", "adapters/a/tunedyno.json",
        "adapters/a/training.jsonl", "checkpoints/b/recovery.json", "load/a/main/block-02.jsonl",
    ]  # fmt: skip
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(DAMAGE[kind])
    code, _, error = dyno(capsys, monkeypatch, "report", str(run))
    assert code == 0, error
    summary, page = (run / "summary.json").read_text(), (run / "report.html").read_text()
    for name in ("calibration.json", "telemetry/a.parquet", "a/main/block-02.jsonl:1"):
        assert name in summary and name in page
    assert "checkpoints/b/recovery.json" in page


def test_two_reports_of_one_run_are_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MADE.write(tmp_path / "run")
    made = []
    for _ in range(2):
        assert dyno(capsys, monkeypatch, "report", str(run))[0] == 0
        made.append(
            [
                (run / name).read_bytes()
                for name in (
                    "summary.json",
                    "verdict.json",
                    "report.html",
                    "report.md",
                    "junit.xml",
                )
            ]
        )
    assert made[0] == made[1]


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_asked_otherwise_is_noted_beside_a_damaged_environment(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "environment.json"
    file.write_bytes(DAMAGE[kind])
    note_requests(file, {"a": ("no seed",), "b": ()})
    note_requests(file, {"a": ("no seed", "no top_p")})
    kept = read_environment(tmp_path)
    assert (
        kept.requests == {"a": ["no seed", "no top_p"]}
        and not kept.notes
        and "hardware" in kept.whole
    )
