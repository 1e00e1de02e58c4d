"""`dyno run --dry-run` checks the H100 example on a machine that has neither GPU nor model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

H100 = Path(__file__).resolve().parents[2] / "examples" / "h100"


def dry_run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Without a hub, and with nobody's hub cache."""
    return subprocess.run(
        [sys.executable, "-m", "dyno.cli", "run", "experiment.yaml", "--dry-run"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_h100_example_checks_out(tmp_path: Path) -> None:
    folder = shutil.copytree(H100, tmp_path / "h100")
    done = dry_run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "finetune",
        "rate-32",
        "merged-finetune",
        "5 servers, sleep",
        "8 billion parameters",
        "nothing was started",
    ):
        assert words in done.stdout
    assert [
        path.name
        for path in folder.iterdir()
        if path.name not in {p.name for p in H100.iterdir()} | {"hub"}
    ] == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "max-num-seqs: 256",
            "max-num-seq: 256",
            "has no such option (did you mean 'max-num-seqs'?)",
        ),
        ("memory: 80GB", "memory: 16GB", "one server needs"),
        ("rank: 16", "rank: 1024", "rank"),
    ],
)
def test_what_it_would_be_refused_for(tmp_path: Path, old: str, new: str, says: str) -> None:
    folder = shutil.copytree(H100, tmp_path / "h100")
    text = (folder / "experiment.yaml").read_text()
    assert old in text
    (folder / "experiment.yaml").write_text(text.replace(old, new))
    done = dry_run(folder)
    assert done.returncode == 3, done.stdout + done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
