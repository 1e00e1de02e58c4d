"""A model's folder with an adapter beside it."""

from __future__ import annotations

from pathlib import Path

from foundation.models.loading import without_adapter


def test_a_leftover_adapter_is_out_of_sight(tmp_path: Path) -> None:
    weights = {"config.json": "{}", "model.safetensors": "w"}
    adapter = {"adapter_config.json": "{}", "adapter_model.safetensors": "a"}
    for name, text in (weights | adapter).items():
        (tmp_path / name).write_text(text)
    with without_adapter(tmp_path) as view:
        assert {file.name: file.read_text() for file in view.iterdir()} == weights
    (tmp_path / "adapter_config.json").unlink()
    with without_adapter(tmp_path) as view:
        assert view == tmp_path
