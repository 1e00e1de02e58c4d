"""The planner: closed forms, and the planned power of simulated measurements."""

from __future__ import annotations

import random
from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decision.simulate import Machine, planned_power
from results.analysis import analyse
from results.comparison.resolution import (
    PairSpread,
    blocks_needed,
    forecast,
    plan_blocks,
    smallest_change,
    spread_of,
)
from results.config import ResolutionConfig
from results.inputs import RunInputs
from tests.results.synthetic import inputs, request, write_journal


def test_a_spread_that_is_known_gives_the_textbooks_number() -> None:
    """(1.960 + 0.842)^2 = 7.85 times squared spread over change: 314 pairs for 0.05 / 0.3162."""
    known = PairSpread(0.05 * sqrt(40), freedom=10**6)
    assert blocks_needed(known, exp(0.05) - 1) == pytest.approx(40 * 7.849, rel=0.01)


def test_what_is_needed_shows_what_was_wanted_and_one_less_does_not() -> None:
    spread = PairSpread(0.1, freedom=3)
    needed = blocks_needed(spread, 0.05)
    assert smallest_change(spread, needed) <= 0.05 < smallest_change(spread, needed - 1)
    assert blocks_needed(spread, 0.1) < needed < blocks_needed(PairSpread(0.2, freedom=3), 0.05)
    assert blocks_needed(spread, 0.05, power=0.95) > needed
    assert (
        blocks_needed(PairSpread(0.1, freedom=100), 0.05) < needed
    )  # the better known, the fewer it takes


def test_the_spread_is_that_of_the_pairs() -> None:
    moods = [1.0, 3.0, 0.5, 2.0]
    pairs = [
        (np.full(10, mood * change), np.full(10, mood))
        for mood, change in zip(moods, (1.0, 1.1, 1.2, 1.3), strict=True)
    ]
    spread = spread_of(pairs, "p95")
    assert spread is not None
    assert spread.deviation == pytest.approx(
        np.std([log(1.0), log(1.1), log(1.2), log(1.3)], ddof=1)
    )
    assert spread.freedom == 3


def test_a_single_block_is_cut_into_parts() -> None:
    """Four parts whose log-ratios spread by s: their mean, the block, by s / 2."""
    ratios = [1.0, 1.1, 1.2, 1.3]
    spread = spread_of([(np.repeat(ratios, 25), np.ones(100))], "mean")
    assert spread is not None
    assert spread.deviation == pytest.approx(np.std(np.log(ratios), ddof=1) / 2)
    assert spread_of([(np.empty(0), np.ones(100))], "mean") is None


@pytest.mark.parametrize("pilot", [1, 4])
def test_planned_measurements_have_their_power(pilot: int) -> None:
    """On average over pilots, which know the spread but roughly."""
    assert (
        0.7
        <= planned_power(Machine(), 95, 0.1, pilot, comparisons=200, seed=21, per_block=100)
        <= 0.97
    )


SECOND = 1_000_000_000


def a_run(folder: Path, scatter: float, blocks: int, apart: bool = False) -> RunInputs:
    """A block takes 10 s; `apart`: every block of the baseline before the first of the variant."""
    rng = random.Random(4)
    for variant, first in (("base", 0), ("tuned", 1)):
        for block in range(blocks):
            level = 100 * (1 + first / 10) * rng.uniform(1 - scatter, 1 + scatter)
            records = [
                request(i, f"q{i}", 100 * i, level * rng.uniform(0.9, 1.1), 50) for i in range(50)
            ]
            turn = block + first * blocks if apart else 2 * block + first
            write_journal(
                folder,
                variant,
                block + 1,
                records,
                began_ns=(1 + turn * 10) * SECOND,
                ended_ns=10 * SECOND,
            )
    return inputs(folder, ["base", "tuned"])


def with_resolution(run: RunInputs, **fields: object) -> RunInputs:
    return replace(run, resolution=ResolutionConfig.model_validate({"change": "5%", **fields}))


def test_the_plan_of_a_run_stays_what_its_pilot_made_it(tmp_path: Path) -> None:
    short = plan_blocks(with_resolution(a_run(tmp_path / "short", 0.05, 3)))
    for turn, variant in enumerate(("base", "tuned") * 3, start=6):
        records = [request(i, f"q{i}", 100 * i, 900 if turn % 3 else 20, 10) for i in range(50)]
        write_journal(
            tmp_path / "short",
            variant,
            1 + turn // 2,
            records,
            began_ns=(1 + turn * 10) * SECOND,
            ended_ns=10 * SECOND,
        )
    grown = plan_blocks(with_resolution(inputs(tmp_path / "short", ["base", "tuned"])))
    assert short.blocks == grown.blocks > 3
    assert (
        f"takes about {short.blocks} blocks, {round(short.blocks * 20 / 60)} min of load"
        in short.sentences[0]
    )


def test_too_little_time_says_what_it_shows(tmp_path: Path) -> None:
    plan = plan_blocks(with_resolution(a_run(tmp_path, 0.3, 4), max_time="2m"))
    assert plan.blocks == 6
    assert "2 min are enough for 6 blocks, which show" in plan.sentences[1]
    assert (
        plan_blocks(with_resolution(a_run(tmp_path, 0.3, 4), max_time="1s")).blocks == 3
    )  # the pilot itself


def test_an_earlier_run_tells_what_another_would_show(tmp_path: Path) -> None:
    run = a_run(tmp_path, 0.05, 6)
    few, many = (
        float(forecast(run, blocks)[0].split("change of ")[1].split(" %")[0]) for blocks in (5, 50)
    )
    assert many < few / 2
    assert "100 blocks" in forecast(with_resolution(run), 100)[0]


def test_every_summary_says_what_its_blocks_show(tmp_path: Path) -> None:
    resolution = analyse(a_run(tmp_path, 0.05, 6)).resolution["tuned"]
    assert resolution.blocks == 6
    assert resolution.smallest is not None
    assert 0 < resolution.smallest < 0.2
    assert resolution.needed is None
    summary = analyse(with_resolution(a_run(tmp_path, 0.05, 6)))
    assert summary.resolution["tuned"].needed is not None
    assert summary.resolution["tuned"].sentence in summary.notes


def test_variants_that_did_not_take_turns_are_named(tmp_path: Path) -> None:
    by_turns, apart = (
        analyse(a_run(tmp_path / "a", 0.05, 4)),
        analyse(a_run(tmp_path / "b", 0.05, 4, apart=True)),
    )
    assert [s.alternated for run in (by_turns, apart) for s in run.variants[1].stages] == [
        True,
        False,
    ]
    assert not any("by turns" in note for note in by_turns.notes)
    assert any(note.startswith("tuned: not measured by turns with base") for note in apart.notes)
    assert any("did not alternate" in note for note in apart.variants[1].stages[0].notes)


def test_a_run_notes_what_it_resolves_only_where_a_resolution_is_asked_for(tmp_path: Path) -> None:
    for variant, latency in (("base", 100), ("tuned", 102)):
        for block in (1, 2, 3, 4):
            records = [
                request(i, f"q{i}", i * 25, latency + (i * 7 + block) % 11) for i in range(300)
            ]
            write_journal(tmp_path, variant, block, records)
    plain = inputs(tmp_path, ["base", "tuned"])
    with_resolution = replace(plain, resolution=ResolutionConfig.model_validate("3%"))
    sentences = [resolution.sentence for resolution in analyse(with_resolution).resolution.values()]
    assert sentences
    assert set(sentences) <= set(analyse(with_resolution).notes)
    assert not set(sentences) & set(analyse(plain).notes)
