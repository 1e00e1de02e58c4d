"""How large a checkpoint will be, held against the files that are then written."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from safetensors.torch import load_file

from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import count_weights, planned_weights, quantize
from quantize.config import Method, QuantizeConfig
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return build_tiny_model(
        tmp_path_factory.mktemp("source"), tied=request.param, hidden=128, intermediate=512
    )


def stored_bytes(model: ModelRef) -> int:
    return sum(t.nbytes for file in model.shards() for t in load_file(file).values())


def test_a_merge_holds_as_many_weights_as_its_base(source: ModelRef) -> None:
    assert 2 * count_weights(source) == stored_bytes(source)


@pytest.mark.parametrize("method", get_args(Method))
def test_a_quantized_checkpoint_is_no_larger_than_planned_and_hardly_smaller(
    source: ModelRef, method: Method, tmp_path: Path
) -> None:
    config = QuantizeConfig(method=method)
    full_precision, rounded_bytes = planned_weights(source, config)
    planned = 2 * full_precision + rounded_bytes
    written = stored_bytes(quantize(source, config, tmp_path / "out", Silent()))
    assert written <= planned <= 1.15 * written
    assert planned < stored_bytes(source)
