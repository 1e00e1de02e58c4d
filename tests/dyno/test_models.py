"""From a name to a checkpoint: folders, the hub's cache, and names that are neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyno.experiment.models import (
    adapter_folder,
    resolve_adapter,
    resolve_model,
    tokenizer_folder,
)
from foundation.errors import BadInput
from foundation.progress import Silent
from tests.tiny_model import build_tiny_model

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the shape of the hub's cache, with one model in it, and no hub behind it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--test--tiny-chat"
    build_tiny_model(repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    return tmp_path


def test_a_hub_id_comes_from_the_hub_cache_with_its_revision(hub: Path) -> None:
    model = resolve_model("test/tiny-chat", Path.cwd(), Silent())
    assert (model.id, model.revision) == ("test/tiny-chat", REVISION)
    assert model.config()["architectures"] == ["LlamaForCausalLM"]
    assert model.size_bytes() > 0


def test_a_hub_id_may_name_its_revision(hub: Path) -> None:
    assert resolve_model(f"test/tiny-chat@{REVISION}", Path.cwd(), Silent()).revision == REVISION


def test_a_hub_id_that_is_nowhere(hub: Path) -> None:
    with pytest.raises(
        BadInput,
        match=r"model: test/other: not in the local hub cache, and the hub could not be reached",
    ):
        resolve_model("test/other", Path.cwd(), Silent())


def test_a_folder_is_relative_to_the_experiment(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "mine")
    model = resolve_model("mine", tmp_path, Silent())
    assert (model.id, model.path) == ("mine", tmp_path / "mine")


@pytest.mark.parametrize("name", ["no such folder", "bundled:smollm3", "./missing"])
def test_a_name_that_is_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        BadInput, match=r"no folder|no bundled model of that name \(known: smollm2|did you mean"
    ):
        resolve_model(name, tmp_path, Silent())


@pytest.mark.parametrize("name", ["bare", "./bare", "no such model!"])
def test_a_tokenizer_that_is_nothing(tmp_path: Path, name: str) -> None:
    """A folder without `tokenizer.json` is not searched on the hub, even with a name like an id."""
    (tmp_path / "bare").mkdir()
    with pytest.raises(
        BadInput, match=r"workload\.tokenizer: '.*' is no folder with a tokenizer\.json"
    ):
        tokenizer_folder(name, tmp_path, Silent())


def test_a_folder_that_can_not_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(BadInput, match=r"no config\.json"):
        resolve_model("model", tmp_path, Silent())
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        resolve_model("model", tmp_path, Silent())
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BadInput, match="only pickle weights"):
        resolve_model("model", tmp_path, Silent())
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(BadInput, match="BertForMaskedLM is not a causal language model"):
        resolve_model("model", tmp_path, Silent())


def test_equal_weights_have_equal_fingerprints(tmp_path: Path) -> None:
    one, same, other = (
        build_tiny_model(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def test_an_adapter_is_a_folder_or_a_hub_id(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = adapter(hub / "models--test--tuned" / "snapshots" / REVISION)
    (hub / "models--test--tuned" / "refs").mkdir()
    (hub / "models--test--tuned" / "refs" / "main").write_text(REVISION)
    ours = adapter(hub / "home" / "mine")
    monkeypatch.setenv("HOME", str(hub / "home"))
    for name, folder in (
        ("test/tuned", snapshot),
        (f"test/tuned@{REVISION}", snapshot),
        ("~/mine", ours),
        ("mine", ours),
    ):
        assert resolve_adapter(name, hub / "home", Silent()) == folder
        assert adapter_folder(name, hub / "home") == folder
    with pytest.raises(BadInput, match=r"adapter: test/other: not in the local hub cache"):
        resolve_adapter("test/other", hub, Silent())
    with pytest.raises(
        BadInput, match=r"missing: no such adapter folder, and './missing' is no hub id"
    ):
        resolve_adapter("./missing", hub, Silent())


def test_gpt_2_is_a_causal_model(tmp_path: Path) -> None:
    from tests.foundation.test_checkpoint import write

    write(
        tmp_path / "gpt2",
        {"transformer.h.0.ln_1.weight": (8,)},
        architectures=["GPT2LMHeadModel"],
        num_hidden_layers=1,
    )
    assert resolve_model("gpt2", tmp_path, Silent()).id == "gpt2"
