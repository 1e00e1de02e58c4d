"""What is cached of bundled models and data is used only as long as it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dyno.artifacts.artifact import Artifact
from dyno.artifacts.stored import mark, state_of
from dyno.experiment.bundled import check_sha256, is_intact
from foundation.errors import SystemFailed

MODEL = Artifact("bundled model", {"wheel": "a" * 64, "edition": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"w": np.zeros((100, 10), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 10}))
    (tmp_path / "train.jsonl").write_text('{"input": "a"}\n{"input": "b"}\n')
    return tmp_path


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 + 1)


def empty(file: Path) -> None:
    os.truncate(file, 0)


NAMES = ("model.safetensors", "config.json", "train.jsonl")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [cut, empty, Path.unlink])
def test_a_damaged_file_of_a_bundled_model_is_noticed(
    folder: Path, damage: Callable[[Path], None], name: str
) -> None:
    mark(folder, MODEL)
    assert is_intact(folder, MODEL)
    damage(folder / name)
    assert not is_intact(folder, MODEL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [cut, empty])
def test_what_an_older_version_cached_is_looked_at(
    folder: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(folder / name)
    assert not is_intact(folder, MODEL)
    assert state_of(folder, MODEL) == "unmarked"


def test_what_an_older_version_cached_whole_is_marked_and_used(folder: Path) -> None:
    assert is_intact(folder, MODEL)
    assert state_of(folder, MODEL) == "done"
    assert not is_intact(folder, Artifact("bundled model", {"wheel": "a" * 64, "edition": 2}))


def test_a_downloaded_file_is_the_one_that_was_pinned(tmp_path: Path) -> None:
    wheel = tmp_path / "package-1-py3-none-any.whl"
    wheel.write_bytes(b"abc")  # FIPS 180-4, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_sha256(wheel, digest)
    wheel.write_bytes(b"abd")
    with pytest.raises(SystemFailed, match=f"expected {digest}: not the package this was built"):
        check_sha256(wheel, digest)
