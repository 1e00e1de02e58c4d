from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from quantize import check_adapter
from tests.quantize.conftest import build_adapter
from tests.tiny_model import build_tiny_model


@pytest.fixture
def hub(base: ModelRef) -> ModelRef:
    """As if it had come from the hub."""
    return replace(base, id="HuggingFaceTB/SmolLM2-135M-Instruct")


def recorded(base: ModelRef, folder: Path, name: str, *, fingerprint: bool = False) -> Path:
    return build_adapter(base, folder / "adapter", fingerprint=fingerprint, named=name)


@pytest.mark.parametrize(
    "name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "huggingfacetb/smollm2-135m-instruct"]
)
def test_the_bases_own_name_is_nothing_to_tell_of(hub: ModelRef, tmp_path: Path, name: str) -> None:
    assert check_adapter(recorded(hub, tmp_path, name), hub) == []


@pytest.mark.parametrize(
    "name",
    [
        "unsloth/SmolLM2-135M-Instruct-bnb-4bit",
        "unsloth/SmolLM2-135M-Instruct-unsloth-bnb-4bit",
        "mirror/smollm2-135m-instruct",
        "somebody/SmolLM2-135M-Instruct-GPTQ-Int4",
        "HuggingFaceTB/SmolLM2-135M-Instruct@main",
        "/data/home/someone/llm/base",
        "./base",
        "models/base",
        "models/deep/base",
        "base",
        "C:\\models\\base",
        "~/nowhere/base",
    ],
)
def test_a_mirror_or_a_path_is_a_warning_where_shapes_fit_and_an_error_where_not(
    hub: ModelRef, tmp_path: Path, name: str
) -> None:
    adapter = recorded(hub, tmp_path, name)
    [warnings] = check_adapter(adapter, hub)
    assert (
        f"records {name} as its base; shapes fit" in warnings
        and "nothing shows that the weights are the same" in warnings
    )
    with pytest.raises(BadInput, match="was trained on another model"):
        check_adapter(
            adapter, replace(build_tiny_model(tmp_path / "wide", intermediate=256), id=hub.id)
        )


@pytest.mark.parametrize(
    "name",
    ["HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-360M-Instruct-bnb-4bit", "other/model"],
)
def test_another_models_name_is_an_error_though_shapes_fit(
    hub: ModelRef, tmp_path: Path, name: str
) -> None:
    with pytest.raises(
        BadInput, match=f"trained on {name}, not on .*write {hub.id} for base_model_name_or_path"
    ):
        check_adapter(recorded(hub, tmp_path, name), hub)


def test_the_fingerprint_settles_it_whatever_the_name(hub: ModelRef, tmp_path: Path) -> None:
    adapter = recorded(hub, tmp_path, "other/model", fingerprint=True)
    [warnings] = check_adapter(adapter, hub)
    assert warnings.endswith(
        "records other/model as its base, which has the weights of "
        "HuggingFaceTB/SmolLM2-135M-Instruct"
    )
    with pytest.raises(BadInput, match="trained on other/model, whose weights are not those of"):
        check_adapter(
            adapter, replace(build_tiny_model(tmp_path / "other", seed=1), id="other/model")
        )


def test_the_weights_at_a_recorded_path_are_compared(
    base: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that leads to a model here, relative ones from where dyno runs."""
    monkeypatch.chdir(tmp_path)
    same = replace(build_tiny_model(tmp_path / "models" / "same", initializer_range=0.2), id="same")
    other = replace(
        build_tiny_model(tmp_path / "models" / "other", seed=1, initializer_range=0.2), id="other"
    )
    adapter = recorded(base, tmp_path, "models/same")
    assert check_adapter(adapter, same) == []
    [warnings] = check_adapter(adapter, base)
    assert warnings.endswith(
        "records models/same as its base, which has the weights of test/tiny-chat"
    )
    with pytest.raises(
        BadInput, match="trained on models/same, whose weights are not those of other"
    ):
        check_adapter(adapter, other)
    # A folder without weights has none to compare.
    (tmp_path / "models" / "bare").mkdir()
    (tmp_path / "models" / "bare" / "config.json").write_text("{}")
    [warnings] = check_adapter(recorded(base, tmp_path / "second", "models/bare"), base)
    assert "nothing shows that the weights are the same" in warnings
