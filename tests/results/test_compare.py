"""Differences to the baseline and the parts of a change in latency, against numbers by hand."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.run.records import RequestRecord
from foundation.run.requests import requests_of
from results.analysis import analyse
from results.comparison.decomposition import decompose
from results.comparison.pairing import Pairing
from results.comparison.variants import paired_scores
from results.measures.steady_state import StageBlock
from results.summary import VariantSummary
from tests.results.synthetic import inputs, request, write_journal, write_prompts


def block_of_requests(number: int, records: list[RequestRecord]) -> StageBlock:
    return StageBlock(number, number, 1.0, requests_of(records), 0, 0, 0.0, 0.0, 0.0, ())


def tuned_against_base(run: Path) -> VariantSummary:
    return analyse(inputs(run, ["base", "tuned"])).variants[1]


def test_why_latency_changed_by_hand() -> None:
    """Base: TTFT 100, 11 tokens, 10 ms each: 200 ms. Variant: TTFT 130, 21 tokens, 8 ms: 290 ms.

    d(TTFT) 30; 10 ms x 10 tokens more = 100; 20 gaps x (8 - 10) = -40: together 90.
    """
    base = block_of_requests(1, [request(0, "a", 0, 200, 100, output_tokens=11)])
    variant = block_of_requests(1, [request(0, "a", 0, 290, 130, output_tokens=21)])
    parts = decompose(Pairing([(variant, base)], ()))
    assert parts is not None
    assert parts.latency.value == pytest.approx(90)
    assert parts.prefill_and_queueing.value == pytest.approx(30)
    assert parts.verbosity.value == pytest.approx(100)
    assert parts.speed_per_token.value == pytest.approx(-40)
    assert parts.residual == pytest.approx(0, abs=1e-9)


shapes = st.tuples(st.floats(1, 1e4), st.floats(0, 1), st.integers(1, 50))


@given(st.lists(st.tuples(shapes, shapes), min_size=1, max_size=20))
def test_the_parts_add_up_whatever_the_requests(
    pairs: list[tuple[tuple[float, float, int], tuple[float, float, int]]],
) -> None:
    def side(which: int) -> StageBlock:
        records = []
        for i, pair in enumerate(pairs):
            latency, share, tokens = pair[which]
            records.append(
                request(
                    i,
                    f"p{i}",
                    0,
                    latency,
                    latency * share if tokens > 1 else latency,
                    output_tokens=tokens,
                )
            )
        return block_of_requests(1, records)

    parts = decompose(Pairing([(side(0), side(1))], ()))
    assert parts is not None
    three = (parts.prefill_and_queueing, parts.verbosity, parts.speed_per_token)
    whole = sum(part.value for part in three if part.value is not None)
    assert parts.latency.value is not None
    assert whole == pytest.approx(parts.latency.value, rel=1e-3, abs=1e-3)


def test_failures_and_empty_answers_are_in_no_pair() -> None:
    base = block_of_requests(
        1, [request(0, "a", 0, 10), request(1, "b", 0, 10), request(2, "c", 0, 10)]
    )
    variant = block_of_requests(
        1,
        [
            request(0, "a", 0, 30),
            request(1, "b", 0, 1, failure="reset"),
            request(2, "c", 0, 1, output_tokens=0),
        ],
    )
    parts = decompose(Pairing([(variant, base)], ()))
    assert parts is not None
    assert (parts.latency.value, parts.latency.n) == (pytest.approx(20), 1)
    assert (
        decompose(Pairing([(variant, block_of_requests(1, [request(0, "z", 0, 10)]))], ())) is None
    )


def write_pair(
    run: Path, blocks: int, factor: float, drift: float = 0.0, prompts: tuple[str, str] = ("q", "q")
) -> None:
    """Latencies vary by 10 %, the variant's are `factor` times as long, blocks slow by `drift`."""
    scatter = random.Random(3)
    for block in range(1, blocks + 1):
        moods = [scatter.uniform(0.9, 1.1) * (1 + drift * block) for _ in range(50)]
        for variant, times, prompt in (("base", 1.0, prompts[0]), ("tuned", factor, prompts[1])):
            records = [
                request(i, f"{prompt}{i}", 100 * i, 100 * m * times, 50 * m * times)
                for i, m in enumerate(moods)
            ]
            write_journal(run, variant, block, records)


def test_a_drift_that_hits_both_drops_out(tmp_path: Path) -> None:
    write_pair(tmp_path, 6, 1.25, drift=0.2)
    change = tuned_against_base(tmp_path).stages[0].differences["latency_p50"]
    assert change.relative.value == pytest.approx(0.25)
    assert change.relative.low == pytest.approx(0.25, abs=0.01)
    assert change.absolute.low is not None
    assert change.absolute.low > 0


def test_equal_variants_do_not_differ(tmp_path: Path) -> None:
    write_pair(tmp_path, 6, 1.0)
    for key, change in tuned_against_base(tmp_path).stages[0].differences.items():
        if change.absolute.low is not None and change.absolute.high is not None:
            assert change.absolute.low <= 0 <= change.absolute.high, key


def test_one_block_gives_a_difference_without_an_interval(tmp_path: Path) -> None:
    write_pair(tmp_path, 1, 1.5)
    change = tuned_against_base(tmp_path).stages[0].differences["latency_mean"]
    assert change.relative.value == pytest.approx(0.5)
    assert change.relative.low is None
    assert "two pairs of blocks" in (change.relative.reason or "")


def test_holm_asks_more_of_several_variants(tmp_path: Path) -> None:
    """One difference alone and the same one among equals: shown in both, and no equal is."""
    write_pair(tmp_path, 8, 1.25)
    for name in ("same-1", "same-2"):
        shutil.copytree(tmp_path / "load/base", tmp_path / "load" / name)
        for file in (tmp_path / "load" / name).rglob("*.jsonl"):
            file.write_bytes(
                file.read_bytes().replace(b'"variant":"base"', f'"variant":"{name}"'.encode())
            )
    variants = analyse(inputs(tmp_path, ["base", "tuned", "same-1", "same-2"])).variants
    outcomes = [v.stages[0].differences["latency_mean"].differs for v in variants[1:]]
    assert outcomes == [True, False, False]


def test_the_noise_of_a_run_is_seen_in_the_baseline_itself(tmp_path: Path) -> None:
    write_pair(tmp_path, 8, 1.25, drift=0.3)
    noise = analyse(inputs(tmp_path, ["base", "tuned"])).noise["latency_p50"]
    assert noise.low is not None
    assert noise.high is not None
    assert noise.low <= 0 <= noise.high
    assert "base's own blocks differ" in " ".join(
        analyse(inputs(tmp_path, ["base", "tuned"])).notes
    )
    write_pair(tmp_path / "short", 3, 1.25)
    assert "four blocks" in (
        analyse(inputs(tmp_path / "short", ["base", "tuned"])).noise["latency_p50"].reason or ""
    )


def test_a_missing_block_is_named_and_left_out(tmp_path: Path) -> None:
    write_pair(tmp_path, 3, 1.5)
    (tmp_path / "load/tuned/main/block-02.jsonl").unlink()
    stage = tuned_against_base(tmp_path).stages[0]
    assert "tuned has no block 2" in " ".join(stage.notes)
    assert stage.differences["latency_mean"].relative.n == 2


def test_different_prompts_are_not_compared_prompt_by_prompt(tmp_path: Path) -> None:
    write_prompts(tmp_path, {f"{side}{i}": "x" for side in "ab" for i in range(50)})
    write_pair(tmp_path, 3, 1.5, prompts=("a", "b"))
    tuned = tuned_against_base(tmp_path)
    assert "different prompts" in " ".join(tuned.stages[0].notes)
    assert tuned.differences["quality"].absolute.value is None
    assert tuned.stages[0].decomposition is None


def test_different_seeds_are_noted(tmp_path: Path) -> None:
    write_pair(tmp_path, 2, 1.5)
    write_journal(
        tmp_path, "tuned", 2, [request(i, f"q{i}", 100 * i, 100, 50) for i in range(50)], seed=99
    )
    assert "different seeds" in " ".join(tuned_against_base(tmp_path).stages[0].notes)


def test_the_bootstrap_agrees_with_t_where_there_is_much_to_resample(tmp_path: Path) -> None:
    write_prompts(tmp_path, {f"q{i}": "x" for i in range(50)})
    write_pair(tmp_path, 12, 1.25)
    change = tuned_against_base(tmp_path).stages[0].differences["latency_mean"]
    assert change.bootstrap is not None
    assert change.absolute.low is not None
    assert change.bootstrap.low == pytest.approx(change.absolute.low, rel=0.1)
    few = analyse(inputs(tmp_path, ["base", "tuned"])).variants[1].differences["quality"]
    assert few.bootstrap is not None
    assert (few.bootstrap.low, few.bootstrap.high) == (
        0,
        0,
    )  # no prompt changed, so no resample does


def test_scores_are_compared_on_the_prompts_in_common() -> None:
    change = paired_scores({"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 0.0, "b": 1.0, "z": 1.0})
    assert change.absolute.value == pytest.approx(0.5)
    assert change.absolute.n == 2
    assert paired_scores({"a": 1.0}, {"b": 1.0}).absolute.value is None
