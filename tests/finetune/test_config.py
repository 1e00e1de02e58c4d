from __future__ import annotations

import pytest
from pydantic import ValidationError

from finetune.config import FinetuneConfig


@pytest.mark.parametrize("key", ["rank", "epochs", "batch_size", "accumulation", "max_length", "limit"])
def test_nothing_is_done_zero_times(key: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        FinetuneConfig.model_validate({key: 0})


def test_a_batch_falls_into_whole_parts() -> None:
    assert FinetuneConfig(batch_size=16, accumulation=4).accumulation == 4
    with pytest.raises(ValidationError, match="accumulation: 3 parts do not divide a batch of 16"):
        FinetuneConfig(batch_size=16, accumulation=3)


def test_module_names_as_peft_takes_them() -> None:
    assert FinetuneConfig().modules == "all-linear"
    assert FinetuneConfig(target_modules="q_proj").modules == ["q_proj"]  # peft would take a bare text for a pattern
    assert FinetuneConfig(target_modules=("q_proj", "v_proj")).modules == ["q_proj", "v_proj"]
