from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from quantize.config import QuantizeConfig


def test_a_name_alone_is_a_method() -> None:
    config = QuantizeConfig.model_validate("w8a8-int8")
    assert (config.method, config.algorithm, config.calibrated, config.keep) == (
        "w8a8-int8",
        "rtn",
        False,
        ("lm_head",),
    )


def test_the_long_form() -> None:
    section = {
        "method": "w4a16",
        "algorithm": "gptq",
        "group_size": 64,
        "keep": ["lm_head", "down_proj"],
        "calibration": "1k",
    }
    config = QuantizeConfig.model_validate(section)
    assert (config.calibrated, config.group_size, config.calibration) == (True, 64, 1000)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"method": "w8a8-int8", "algorithm": "awq"},
            "awq is not for w8a8-int8; write rtn or gptq or smoothquant",
        ),
        ({"method": "bnb-nf4", "algorithm": "gptq"}, "gptq is not for bnb-nf4; write rtn"),
        (
            {"method": "w8a8-int8", "group_size": 64},
            "group_size: w8a8-int8 has none to choose; it belongs to w4a16",
        ),
        ({"method": "w4a16", "algorithm": "gptq", "calibration": 8}, "greater than or equal to 32"),
    ],
)
def test_what_does_not_go_together(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuantizeConfig.model_validate(wrong)
