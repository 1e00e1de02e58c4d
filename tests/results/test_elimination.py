"""Who leaves a race: nobody without being shown to, and more evidence keeps nobody in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.decision.stages import requests, stage
from benchmarks.decision.verdicts import OUTCOMES, verdict
from results.decision.elimination import Standings, departures
from results.decision.rivals import RaceCriteria, Rival, Worse, worse_in_everything
from results.summary import Decision

CRITERIA = RaceCriteria(["latency_p95"], {"error_rate": 0.05}, None, {})


def standings(
    decisions: Sequence[Decision], block: int = 3, baseline: str | None = None
) -> Standings:
    verdicts = [
        verdict(f"v{i}", OUTCOMES[decision], "latency_p95", is_baseline=i == 0)
        for i, decision in enumerate(decisions)
    ]
    return Standings(verdicts, block, 10, baseline)


def nobody(ours: str, theirs: str) -> list[Worse]:
    return []


decided = st.lists(st.sampled_from(list(OUTCOMES)), min_size=1, max_size=8)
worse_pairs = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)))


@settings(max_examples=50)
@given(decided, worse_pairs, st.booleans(), st.integers(2, 20))
def test_only_the_shown_leave_and_one_stays_for_each_that_is_worse(
    decisions: list[Decision], pairs: set[tuple[int, int]], refers: bool, block: int
) -> None:
    def compare(ours: str, theirs: str) -> list[Worse]:
        return [Worse("latency mean", "+9 %")] if (int(ours[1]), int(theirs[1])) in pairs else []

    at = standings(decisions, block, "v0" if refers else None)
    leaving = {each.variant: each for each in departures(at, compare)}
    staying = {v.variant for v in at.verdicts} - leaving.keys()
    for name, each in leaving.items():
        decision = decisions[int(name[1])]
        if each.reason == "breaks":
            assert decision == "DON'T SHIP"
        elif each.reason == "worse":
            assert (int(name[1]), int(str(each.than)[1])) in pairs
            assert decision != "DON'T SHIP"
            than = leaving.get(str(each.than))
            assert than is None or than.reason != "breaks"
        else:
            assert decision == "SHIP"
            assert block >= 10 or staying <= {"v0"} or not staying
    if refers and staying - {"v0"}:
        assert "v0" not in leaving
    assert {f"v{i}" for i, d in enumerate(decisions) if d == "DON'T SHIP"} <= leaving.keys() | {
        "v0"
    }


@settings(max_examples=50)
@given(decided, st.integers(0, 7))
def test_more_evidence_never_brings_one_back(decisions: list[Decision], place: int) -> None:
    """Once a verdict is DON'T SHIP instead of open, nobody stays who would have left."""
    place %= len(decisions)
    open_ = [*decisions[:place], "INCONCLUSIVE", *decisions[place + 1 :]]
    broken = [*decisions[:place], "DON'T SHIP", *decisions[place + 1 :]]
    before = {each.variant for each in departures(standings(open_), nobody)}
    after = {each.variant for each in departures(standings(broken), nobody)}
    assert before <= after and f"v{place}" in after


def test_those_that_pass_stop_together_or_after_the_planned_blocks() -> None:
    both = departures(standings(["SHIP", "SHIP"]), nobody)
    assert [each.reason for each in both] == ["settled", "settled"]
    assert departures(standings(["SHIP", "INCONCLUSIVE"]), nobody) == []
    (late,) = departures(standings(["SHIP", "INCONCLUSIVE"], block=10), nobody)
    assert (late.variant, late.is_lost) == ("v0", False)


def rival(name: str, latency: float, seed: int, blocks: int = 6, spread: float = 0.1) -> Rival:
    rng = np.random.default_rng(seed)
    drawn = latency * np.exp(spread * rng.standard_normal((blocks, 60)))
    return Rival(name, stage([requests(one) for one in drawn]), {})


def test_a_variant_twice_as_slow_is_worse_and_its_equal_is_not() -> None:
    slow, fast, twin = rival("slow", 200, 1), rival("fast", 100, 2), rival("twin", 100, 3)
    numbers = worse_in_everything(slow, fast, CRITERIA, 1e-4, 1e-3)
    assert [each.label for each in numbers] == ["latency mean", "latency p95"]
    assert 60 < float(numbers[0].least.strip("+ %")) < 110
    assert worse_in_everything(fast, slow, CRITERIA, 1e-4, 1e-3) == []
    assert worse_in_everything(twin, fast, CRITERIA, 1e-4, 1e-3) == []


def test_a_variant_that_may_answer_better_is_not_worse() -> None:
    right, wrong = {f"q{i}": 1.0 for i in range(200)}, {f"q{i}": float(i % 2) for i in range(200)}
    slow, fast = rival("slow", 200, 1), rival("fast", 100, 2)
    better = replace(slow, scores=right), replace(fast, scores=wrong)
    alike = replace(slow, scores=right), replace(fast, scores=right)
    assert worse_in_everything(*better, CRITERIA, 1e-4, 1e-3) == []
    assert worse_in_everything(*alike, CRITERIA, 1e-3, 1e-3)
    few = dict.fromkeys(list(right)[:20], 1.0)
    assert (
        worse_in_everything(
            replace(slow, scores=few), replace(fast, scores=few), CRITERIA, 1e-3, 1e-3
        )
        == []
    )


def test_a_limit_on_failures_leaves_it_open_until_the_rival_is_shown_to_keep_it() -> None:
    """0.95^134 < 0.001 < 0.95^133; one failure more than none needs the verdict itself."""
    slow, fast = rival("slow", 200, 1), rival("fast", 100, 2)
    two_blocks, three = (
        [
            replace(each, stage=replace(each.stage, blocks=each.stage.blocks[:k]))
            for each in (slow, fast)
        ]
        for k in (2, 3)
    )
    assert worse_in_everything(*two_blocks, CRITERIA, 1e-2, 1e-3) == []
    assert worse_in_everything(*three, CRITERIA, 1e-2, 1e-3)
    assert (
        worse_in_everything(*three, replace(CRITERIA, shares={"error_rate": None}), 1e-2, 1e-3)
        == []
    )
    failing = replace(
        fast.stage.blocks[0], requests=requests(np.full(60, 100.0), [True] + 59 * [False])
    )
    once = replace(fast, stage=replace(fast.stage, blocks=[failing, *fast.stage.blocks[1:]]))
    assert worse_in_everything(slow, once, CRITERIA, 1e-2, 1e-3) == []


def test_a_limit_on_a_time_is_enough_if_the_rival_is_shown_to_keep_it() -> None:
    """The slow one takes 200 ms; of the other, one in ten takes 400 ms, and the rest 70 ms."""
    slow, drawn = rival("slow", 200, 1), rival("fast", 70, 2)
    tail = np.where(np.arange(60) % 10 == 0, 400 / 70, 1.0)
    blocks = [replace(b, requests=requests(b.requests.latency * tail)) for b in drawn.stage.blocks]
    fast = replace(drawn, stage=replace(drawn.stage, blocks=blocks))
    assert worse_in_everything(slow, fast, CRITERIA, 1e-3, 1e-3) == []
    numbers = worse_in_everything(slow, replace(fast, keeps=["latency_p95"]), CRITERIA, 1e-3, 1e-3)
    assert [each.label for each in numbers] == ["latency mean"]
    mean = RaceCriteria(["latency_mean"], {}, None, {})
    equal = replace(rival("twin", 100, 3), keeps=["latency_mean"])
    assert worse_in_everything(rival("fast", 100, 2), equal, mean, 1e-3, 1e-3) == []


def test_blocks_in_which_the_rival_keeps_no_limit_are_not_left_out() -> None:
    """Of the slow one, four in five answers are good; of the other, all and then none."""

    def begun(one: Rival, first_ms: Sequence[np.ndarray]) -> Rival:
        blocks = []
        for block, ms in zip(one.stage.blocks, first_ms, strict=True):
            answers = replace(block.requests, first_ns=block.requests.scheduled_ns + ms * 1e6)
            blocks.append(replace(block, requests=answers))
        return replace(one, stage=replace(one.stage, blocks=blocks))

    good, bad = np.full(60, 40.0), np.full(60, 90.0)
    some = np.where(np.arange(60) % 5 == 0, bad, good)
    goodput = RaceCriteria(["goodput"], {}, None, {"ttft": 60.0})
    slow, fast = begun(rival("slow", 200, 1), [some] * 6), rival("fast", 100, 2, spread=0.01)
    numbers = worse_in_everything(slow, begun(fast, [good] * 6), goodput, 1e-3, 1e-3)
    assert [each.label for each in numbers] == ["latency mean", "goodput"]
    failing = begun(fast, [good] * 3 + [bad] * 3)
    assert worse_in_everything(slow, failing, goodput, 1e-3, 1e-3) == []


def test_variants_of_the_same_weights_answer_alike_unless_shown_otherwise() -> None:
    few = dict.fromkeys([f"q{i}" for i in range(20)], 1.0)
    slow, fast = (
        replace(rival(name, latency, 1), scores=few, weights="w")
        for name, latency in (("slow", 200), ("fast", 100))
    )
    assert worse_in_everything(slow, fast, CRITERIA, 1e-3, 1e-3)
    assert worse_in_everything(slow, replace(fast, weights="other"), CRITERIA, 1e-3, 1e-3) == []
    wrong = replace(fast, scores=dict.fromkeys(few, 0.0))
    assert worse_in_everything(slow, wrong, CRITERIA, 1e-3, 1e-3) == []


def test_only_blocks_of_both_are_compared() -> None:
    """The rival's later blocks, ten times as slow, have no partner."""
    slow, fast = rival("slow", 200, 1, blocks=4), rival("fast", 100, 2)
    late = [replace(block, requests=requests(np.full(60, 1000.0))) for block in fast.stage.blocks]
    kept = [*fast.stage.blocks[:4], *late[4:]]
    longer = replace(fast, stage=replace(fast.stage, blocks=kept))
    assert worse_in_everything(slow, longer, CRITERIA, 1e-3, 1e-3)
