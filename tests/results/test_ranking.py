"""Which of the variants that pass is recommended: the cheap and fast one, in any currency."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.analysis import analyse
from results.decision.verdict import judge
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

BLOCKS, REQUESTS = 5, 60


def measure(run: Path, variant: str, latency: float, tokens: int) -> None:
    for block in range(1, BLOCKS + 1):
        records = [
            request(i, f"q{i}", i * 100, latency + i % 5, 40, output_tokens=tokens, text="yes")
            for i in range(REQUESTS)
        ]
        write_journal(run, variant, block, records)


def recommended(run: Path, dollars: float) -> str | None:
    price = {"price": {"output_per_million": f"${dollars!r}"}}
    asked = inputs(run, ["base", "cheap", "fast"], Goals({"latency_p95": "1s"}, {}, price))
    return judge(analyse(asked), asked).recommended


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """`fast` costs 4 % more than `cheap` and answers in a fifth of its time."""
    write_prompts(tmp_path, {f"q{i}": "yes" for i in range(REQUESTS)})
    measure(tmp_path, "base", 300, 60)
    measure(tmp_path, "cheap", 250, 50)
    measure(tmp_path, "fast", 50, 52)
    return tmp_path


@pytest.mark.parametrize("dollars", [1.0, 1.03, 1.05, 1.07, 1.09, 2.0, 150.0])
def test_a_price_in_another_currency_recommends_the_same_variant(run: Path, dollars: float) -> None:
    assert recommended(run, dollars) == "fast"
