"""Run directories: two processes never share one, and a failure to make one is reported early."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from foundation.errors import BadInput, SystemFailed
from foundation.files.folder_lock import check_free, locked
from foundation.run.layout import RunDirectory, check_root, held_run, new_run
from tests.dyno.stored_runs import StoredRun, dyno


def test_runs_of_one_name_that_begin_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    made: list[Path] = []
    together = threading.Barrier(8)

    def begin() -> None:
        together.wait()
        made.extend(new_run(tmp_path / "runs", "news").path for _ in range(5))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in made} == {"news", *(f"news-{n}" for n in range(2, 41))} and len(
        made
    ) == 40


def test_a_name_that_is_a_dangling_link_is_taken(tmp_path: Path) -> None:
    (tmp_path / "news").symlink_to("/nonexistent/folder")
    assert new_run(tmp_path, "news").path == tmp_path / "news-2"


@pytest.mark.parametrize("below", ["", "deeper/still"])
@pytest.mark.parametrize("kind", ["file", "loop"])
def test_what_is_no_folder_holds_no_runs(tmp_path: Path, kind: str, below: str) -> None:
    place = tmp_path / "place"
    place.touch() if kind == "file" else place.symlink_to(place)
    for make in (check_root, lambda root: new_run(root, "news")):
        with pytest.raises(
            BadInput, match=f"^{place}: not a folder; name another with --out$|can't be made"
        ):
            make(place / below)


def test_a_new_run_is_held_and_freed(tmp_path: Path) -> None:
    with held_run(tmp_path / "runs") as folder:
        assert not (tmp_path / "runs").exists()
        run = folder("news")
        with pytest.raises(BadInput, match="at work in it"):
            check_free(run.path)
    check_free(run.path)


def test_a_run_that_is_gone_is_said(tmp_path: Path) -> None:
    run = RunDirectory(StoredRun(blocks=1).write(tmp_path / "run"))
    run.check_there()
    run.path.rename(tmp_path / "elsewhere")
    with pytest.raises(
        SystemFailed, match=f"^{run.path}: was moved or removed while the run went on$"
    ):
        run.check_there()


@pytest.mark.parametrize(
    "command",
    [
        ("report",), ("plan", "--peak-rate", "5"), ("compare", "other"),
        ("compare", "other", "third"), ("run", "--resume"),
        ("run", "--dry-run", "--resume"),
        ("quantize",),
    ],
)  # fmt: skip
def test_a_run_that_another_process_works_on_is_left_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    run = StoredRun(blocks=1).write(tmp_path / "run")
    for other in ("other", "third"):
        StoredRun(blocks=1).write(tmp_path / other)
    before = sorted(run.rglob("*"))
    with locked(run):
        others = [str(tmp_path / word) if word in ("other", "third") else word for word in command]
        code, _, error = dyno(capsys, monkeypatch, *others, str(run))
    assert code == 3 and error.startswith(f"error: {run}: process ") and error.count("\n") == 1, (
        error
    )
    assert sorted(run.rglob("*")) == sorted([*before, run / ".lock"])
