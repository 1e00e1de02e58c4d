"""`dyno run --resume` names what changed, measures again what depends on it, keeps the rest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXPERIMENT = """\
name: cut
model: m
data: {{eval: questions.jsonl}}
prompts: {{short: "Say {{input}}", long: "Please say {{input}}"}}
variants:
  - {{name: a, url: "{url}", model: m, prompt: short}}
  - {{name: b, url: "{url}", model: m, prompt: long}}
baseline: a
workload:
  stages:
    - {{name: s1, concurrency: 2, requests: 4, warmup: 0s}}
    - {{name: s2, concurrency: 1, requests: 2, warmup: 0s}}
  blocks: 2
"""
EVERYTHING = {
    f"{variant}/{stage}/block-{block:02d}"
    for variant in "ab"
    for stage in ("s1", "s2")
    for block in (1, 2)
}


def dyno(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dyno.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def journals(run: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(run / "load").with_suffix("")): f.read_bytes()
        for f in run.glob("load/*/*/block-*.jsonl")
    }


@pytest.fixture(scope="module")
def begun(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment and its whole run."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(url=url))
    write_questions(folder / "questions.jsonl", "word")
    done = dyno("run", "experiment.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert journals(folder / "runs/cut").keys() == EVERYTHING
    return folder


def write_questions(file: Path, word: str, answer: str = "yes") -> None:
    rows = [
        {"instruction": "Say.", "input": f"{word} {i}", "output": f"{answer} {i}"} for i in range(5)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def edit(old: str, new: str) -> Callable[[Path], None]:
    """A change of the run's own experiment."""

    def change(folder: Path) -> None:
        file = folder / "runs/cut/experiment.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


def of(*parts: str) -> set[str]:
    return {name for name in EVERYTHING if any(name.startswith(part) for part in parts)}


CHANGES: dict[str, tuple[Callable[[Path], None], set[str], str]] = {
    "a lost block, and damaged files": (lambda folder: damage(folder / "runs/cut"), set(), ""),
    "the questions": (
        lambda folder: write_questions(folder / "questions.jsonl", "other"),
        EVERYTHING,
        "since cut began: data.eval: contents changed",
    ),
    "one stage": (
        edit("requests: 2", "requests: 3"),
        of("a/s2", "b/s2"),
        "workload.stages.s2.requests: was 2, is 3",
    ),
}
MORE_CHANGES: dict[str, tuple[Callable[[Path], None], set[str], str]] = {
    "nothing": (lambda folder: None, set(), ""),
    "the answers they should get": (
        lambda folder: write_questions(folder / "questions.jsonl", "word", "no"),
        set(),
        "since cut began: data.eval: contents changed",
    ),
    "one variant's prompt": (
        edit("Please say", "Do say"),
        of("b/"),
        "since cut began: questions to b",
    ),
    "the seed": (
        edit("seed: 0\n  sampling", "seed: 1\n  sampling"),
        EVERYTHING,
        "workload.seed: was 0, is 1",
    ),
    "max_tokens": (
        edit("max_tokens: 256", "max_tokens: 7"),
        EVERYTHING,
        "workload.sampling.max_tokens: was 256, is 7",
    ),
}


def damage(run: Path) -> None:
    """One block is lost, the prompts are cut off, and nothing is known of the environment."""
    (run / "load/a/s1/block-02.jsonl").unlink()
    (run / "prompts.jsonl").write_bytes((run / "prompts.jsonl").read_bytes()[:-20])
    (run / "environment.json").write_bytes(b"")


def copied(begun: Path, to: Path) -> Path:
    """The folder again, as it was; the experiment's paths lead into the copy."""
    folder = to / "copy"
    shutil.copytree(begun, folder)
    for file in (folder / "runs/cut/experiment.yaml", folder / "runs/cut/artifacts.json"):
        file.write_text(file.read_text().replace(str(begun), str(folder)))
    return folder


@pytest.mark.parametrize(
    "change", [*CHANGES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_CHANGES)]
)
def test_what_depends_on_a_change_is_measured_again(
    begun: Path, tmp_path: Path, change: str
) -> None:
    folder = copied(begun, tmp_path)
    make, again, says = {**CHANGES, **MORE_CHANGES}[change]
    before = journals(folder / "runs/cut")
    make(folder)
    left = journals(folder / "runs/cut")
    done = dyno("run", "--resume", "runs/cut", cwd=folder)
    assert done.returncode == 0, done.stderr
    after = journals(folder / "runs/cut")
    assert after.keys() == EVERYTHING
    assert {name for name in left if left[name] != after[name]} == again
    # What was measured before is set aside and not lost.
    loads = folder / "runs/cut/set-aside/1/load"
    aside = {str(f.relative_to(loads).with_suffix("")): f.read_bytes()
             for f in (folder / "runs/cut/set-aside").rglob("block-*.jsonl")}  # fmt: skip
    assert aside == {name: before[name] for name in again}
    assert says in done.stdout
    assert says or "since cut began" not in done.stdout
    # One identity a stage, and the questions of the report are those that were asked.
    for variant in "ab":
        for stage in ("s1", "s2"):
            heads = [
                json.loads(after[f"{variant}/{stage}/block-0{n}"].splitlines()[0]) for n in (1, 2)
            ]
            assert heads[0]["identity"] == heads[1]["identity"] and len(heads[0]["identity"]) == 64
    references = [
        json.loads(line)["reference"]
        for line in (folder / "runs/cut/prompts.jsonl").read_text().splitlines()
    ]
    written = [
        json.loads(line)["output"] for line in (folder / "questions.jsonl").read_text().splitlines()
    ]
    assert references == written
    assert json.loads((folder / "runs/cut/environment.json").read_text())["hardware"]["cores"]


def test_a_dry_run_says_what_is_there_and_touches_nothing(begun: Path, tmp_path: Path) -> None:
    folder = copied(begun, tmp_path)
    edit("requests: 2", "requests: 3")(folder)
    files = {
        f: (f.stat().st_mtime_ns, f.read_bytes())
        for f in (folder / "runs").rglob("*")
        if f.is_file()
    }
    done = dyno("run", "--resume", "runs/cut", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {
        f: (f.stat().st_mtime_ns, f.read_bytes())
        for f in (folder / "runs").rglob("*")
        if f.is_file()
    } == files
    assert "workload.stages.s2.requests: was 2, is 3" in done.stdout
    rows = {
        line.split("│")[1].strip(): line
        for line in done.stdout.splitlines()
        if line.count("│") == 4
    }
    assert "there" in rows["prompts.jsonl"] and "2 of 2 blocks there" in rows["load/a/s1"]
    assert "0 of 2 blocks there, 2 of something else" in rows["load/b/s2"]


def test_flags_of_a_resume_hold_or_are_refused_and_an_edited_file_is_noticed(
    begun: Path, tmp_path: Path
) -> None:
    folder = copied(begun, tmp_path)
    refused = dyno("run", "--resume", "runs/cut", "--out", "elsewhere", cwd=folder)
    assert (
        refused.returncode == 3
        and refused.stderr.startswith("error: --out: ")
        and refused.stderr.count("\n") == 1
    )
    lonely = dyno("run", "--resume", "runs/cut", "--max-time", "1s", cwd=folder)
    assert lonely.returncode == 3 and "--max-time goes with --until-decided" in lonely.stderr
    file = folder / "experiment.yaml"
    file.write_text(file.read_text().replace("requests: 4", "requests: 6"))
    more = dyno("run", "--resume", "runs/cut", "--until-decided", "--max-time", "1m", cwd=folder)
    assert more.returncode == 0, more.stderr
    assert "until_decided" in (folder / "runs/cut/experiment.yaml").read_text()
    assert journals(folder / "runs/cut").keys() >= EVERYTHING
    assert f"{file} was edited since this run began" in more.stdout and "requests" in more.stdout
