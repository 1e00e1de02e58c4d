"""Artifacts on disk: done means there, whole, and of the identity that is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dyno.artifacts.artifact import Artifact
from dyno.artifacts.stored import (
    finish_move,
    is_done,
    making,
    mark,
    read_mark,
    set_aside,
    state_of,
)
from foundation.run.layout import RunDirectory

BASE = Artifact("model base", {"model.safetensors": "a" * 64})
ADAPTER = Artifact(
    "adapters/finetune", {"made": "adapter", "finetune": {"rank": 8}}, {"model": BASE}
)
OTHER = Artifact(
    "adapters/finetune", {"made": "adapter", "finetune": {"rank": 16}}, {"model": BASE}
)


def write(out: Path) -> None:
    (out / "adapter_model.safetensors").write_bytes(bytes(1000))
    (out / "epoch-1").mkdir(exist_ok=True)
    (out / "epoch-1" / "adapter_model.safetensors").write_bytes(bytes(1000))


def made(folder: Path, artifact: Artifact = ADAPTER) -> Path:
    run = RunDirectory(folder)
    with making(run, "adapters/finetune", artifact) as out:
        write(out)
    return run.path / "adapters/finetune"


def test_a_folder_says_what_it_is_made_of(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert is_done(folder, ADAPTER)
    assert sorted(file.name for file in folder.iterdir()) == [
        "adapter_model.safetensors",
        "epoch-1",
        "identity.json",
    ]
    stored = json.loads((folder / "identity.json").read_text())
    assert stored["identity"] == ADAPTER.identity
    assert stored["made_of"]["adapters/finetune"]["finetune"] == {"rank": 8}
    assert stored["made_of"]["model base"] == {"model.safetensors": "a" * 64}
    assert stored["files"]["epoch-1/adapter_model.safetensors"]["bytes"] == 1000
    assert state_of(folder, OTHER) == "other"
    assert state_of(tmp_path / "adapters/none", ADAPTER) == "missing"
    # A folder that an older version wrote says nothing, and is not believed.
    (folder / "identity.json").unlink()
    assert state_of(folder, ADAPTER) == "unmarked"


def cut(file: Path) -> None:
    os.truncate(file, 500)


def flip(file: Path) -> None:
    """One byte, the date as it was."""
    before = file.stat()
    file.write_bytes(b"\1" + file.read_bytes()[1:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "epoch-1/adapter_model.safetensors"])
def test_a_damaged_file_is_noticed(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    folder = made(tmp_path)
    damage(folder / name)
    assert state_of(folder, ADAPTER) == "damaged"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"{}", b'{"identity": 7}', b"\xff", b"[" * 9_000]
)
def test_a_damaged_identity_is_none(tmp_path: Path, damage: bytes) -> None:
    folder = made(tmp_path)
    (folder / "identity.json").write_bytes(damage)
    assert state_of(folder, ADAPTER) == "unmarked"


def test_a_file_has_its_identity_beside_it(tmp_path: Path) -> None:
    file, prompts = tmp_path / "prompts.jsonl", Artifact("prompts", {"contents": "b" * 64})
    file.write_text("{}\n" * 9)
    mark(file, prompts, {"corrections": {"a": {"extra": 5}}})
    assert is_done(file, prompts)
    kept = read_mark(file)
    assert kept is not None and kept.more == {"corrections": {"a": {"extra": 5}}}
    cut_short = file.read_text()[:-2]
    file.write_text(cut_short)
    assert state_of(file, prompts) == "damaged"


def test_training_goes_on_only_from_what_is_of_the_same_identity(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)

    def begin(artifact: Artifact) -> bool:
        """Train a little and be killed; whether there was something to go on from."""
        with (
            pytest.raises(KeyboardInterrupt),
            making(run, "adapters/finetune", artifact, go_on=True) as out,
        ):
            before = (out / "checkpoint-10").exists()
            (out / "checkpoint-10").mkdir(exist_ok=True)
            raise KeyboardInterrupt
        return before

    assert not begin(ADAPTER)
    assert begin(ADAPTER)
    assert not begin(OTHER)
    assert begin(OTHER)
    # What it was in the middle of is not lost.
    assert (tmp_path / "set-aside/1/adapters/finetune.partial/checkpoint-10").is_dir()
    # One that says not what it is of (an older version's) is not gone on from either.
    (tmp_path / "adapters/finetune.partial/begun.json").unlink()
    assert not begin(OTHER)


@pytest.mark.parametrize("begun", [True, False])
def test_what_was_finished_and_not_renamed_is_not_made_again(tmp_path: Path, begun: bool) -> None:
    """Killed before `begun.json` was removed, or after."""
    folder = made(tmp_path)
    run, partial = RunDirectory(tmp_path), RunDirectory.partial(folder)
    folder.rename(partial)
    if begun:
        (partial / "begun.json").write_text(json.dumps({"identity": ADAPTER.identity}))
    finish_move(run, "adapters/finetune", OTHER)
    assert state_of(folder, ADAPTER) == "missing"
    finish_move(run, "adapters/finetune", ADAPTER)
    assert state_of(folder, ADAPTER) == "done" and not (folder / "begun.json").exists()


def test_what_is_made_again_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    folder = made(tmp_path)
    made(tmp_path, OTHER)
    assert is_done(folder, OTHER)
    assert is_done(tmp_path / "set-aside/1/adapters/finetune", ADAPTER)


def test_nothing_that_is_set_aside_covers_what_was_before(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for number in (1, 2, 3):
        (tmp_path / "rates.json").write_text(str(number))
        assert set_aside(run, tmp_path / "rates.json").read_text() == str(number)
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("rates.json")) == [
        f"set-aside/{number}/rates.json" for number in (1, 2, 3)
    ]
    for name in ("base", "tuned"):
        (tmp_path / "load" / name).mkdir(parents=True)
        assert set_aside(run, tmp_path / "load" / name) == tmp_path / "set-aside/1/load" / name
