from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from foundation.errors import BadInput
from foundation.models.model import ModelRef


def weights(folder: Path, name: str, tensor: str) -> int:
    save_file({tensor: np.zeros((2, 3))}, folder / name)
    return (folder / name).stat().st_size


def test_its_weights_are_the_files_that_are_loaded(tmp_path: Path) -> None:
    """Some makers publish the same weights a second time, in one file of their own names."""
    model = ModelRef("m", None, tmp_path)
    sizes = [weights(tmp_path, f"model-0000{n}-of-00002.safetensors", f"w{n}") for n in (1, 2)]
    assert model.shapes() == {"w1": (2, 3), "w2": (2, 3)}
    index = {"weight_map": {f"w{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    before = model.fingerprint()
    weights(tmp_path, "consolidated.safetensors", "layers.0.wq")
    assert model.shapes().keys() == {"w1", "w2"}
    assert (model.size_bytes(), model.fingerprint()) == (sum(sizes), before)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        BadInput, match=r"index\.json: names model-00002-of-00002\.safetensors, which is not there"
    ):
        model.shapes()


def test_one_file_comes_before_several(tmp_path: Path) -> None:
    size = weights(tmp_path, "model.safetensors", "w")
    weights(tmp_path, "consolidated.safetensors", "layers.0.wq")
    model = ModelRef("m", None, tmp_path)
    assert (model.shapes(), model.size_bytes()) == ({"w": (2, 3)}, size)


def test_no_weights(tmp_path: Path) -> None:
    model = ModelRef("m", None, tmp_path)
    assert model.size_bytes() == 0
    with pytest.raises(
        BadInput, match=r"no \*\.safetensors weights; pickle weights are not loaded"
    ):
        model.shards()
