"""What `dyno improve` chooses, expects and learns; every expected number is worked out by hand."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import pytest
from msgspec.structs import replace
from pytest import approx

from dyno.experiment.schema import Experiment
from dyno.pipeline.settings import settings_of
from foundation.run.records import VariantRecord
from results.analysis import analyse
from results.decision.binding_case import Remedy
from results.decision.improvement.choice import Knowledge, RemedyChoice, choose, nearest_first
from results.decision.improvement.endings import nothing_left
from results.decision.improvement.expectation import correction, effects_of, on_metric
from results.decision.improvement.record import ImproveRound, KnownEffect, TriedRemedy
from results.decision.patch import Patch
from results.decision.verdict import judge
from results.decision.work import RequestWork, TimeParts, factor_on
from results.inputs import RunInputs
from results.summary import Advice, Estimate, Summary, VariantVerdict, Verdicts
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

PARTS = TimeParts(waiting=100, prefill=100, decode=200, rest=50)
HALF = RequestWork(decode=0.5, prefill=0.5)


@pytest.mark.parametrize(
    ("family", "work", "factor"),
    [
        ("latency", HALF, (50 + 50 + 100 + 50) / 450),
        ("ttft", HALF, (50 + 50 + 50) / 250),
        ("tpot", HALF, 0.5),
        ("queue", HALF, 0.5),
        ("latency", RequestWork(output=0.25), (100 * 150 / 300 + 100 + 50 + 50) / 450),
        ("ttft", RequestWork(input=0.5), (100 * 250 / 300 + 50 + 50) / 250),
        ("tpot", RequestWork(input=0.5), 1.0),
    ],
)
def test_a_change_of_the_work_goes_through_the_parts_of_the_time(
    family: str, work: RequestWork, factor: float
) -> None:
    assert factor_on(family, PARTS, work) == approx(factor)


def known(kind: str, expected: float, measured: float, about: str = "latency") -> KnownEffect:
    return KnownEffect(kind=kind, about=about, expected=expected, measured=measured)


def test_one_measurement_counts_half_and_a_family_stands_in_for_its_kinds() -> None:
    once = [known("quantize w8a8-int8", 0.64, 0.4)]
    assert correction("quantize w8a8-int8", "latency", once) == (approx((0.4 / 0.64) ** 0.5), 1)
    assert correction("quantize w4a16", "latency", once) == (approx((0.4 / 0.64) ** 0.5), 1)
    assert correction("prune 25%", "latency", once) == (1.0, 0)
    assert correction("quantize w8a8-int8", "cost", once) == (1.0, 0)
    undone = [known("gentler quantization", 0.6, 0.3), known("more training: epochs 4", 1.0, 0.5)]
    assert correction("quantize w8a8-int8", "latency", undone) == (1.0, 0)
    assert correction("milder tuning: epochs 1, rank 8", "latency", undone) == (1.0, 0)
    twice = [*once, known("quantize w8a8-int8", 0.64, 0.8)]
    total = log(0.4 / 0.64) + log(0.8 / 0.64)
    assert correction("quantize w8a8-int8", "latency", twice) == (approx(exp(total / 3)), 2)


def test_of_a_floor_the_effect_is_the_inverse() -> None:
    """A rate that doubled where 1.6 times were expected: the burden is a half, not 0.625."""
    tried = TriedRemedy(
        variant="v", kind="merge", remedy="", change="", source="", published=1.6, expected=1.6,
        score_published=0.98, score_expected=0.98,
        measured=Estimate(value=2.0), score=Estimate(value=0.9),
    )  # fmt: skip
    round_ = ImproveRound(
        number=1, folder="", variant="t", metric="requests_per_s", label="", floor=True,
        about="requests_per_s", binding="", blocks=4, tried=[tried], skipped=[],
    )  # fmt: skip
    assert on_metric(0.5, floor=True) == 2.0
    [rate, score] = effects_of(round_)
    assert (rate.expected, rate.measured) == (approx(0.625), 0.5)
    assert (score.about, score.expected, score.measured) == ("score", 0.98, 0.9)
    absurd = [
        replace(tried, published=published, measured=Estimate(value=value), score=None)
        for published, value in ((0.0, 2.0), (1.6, 0.0), (1e300, 2.0), (1.6, 1e-300), (1e-320, 1.0))
    ]
    assert effects_of(replace(round_, tried=absurd)) == []


def measured(
    run: Path, kind: str, goals: Goals, right: int = 80
) -> tuple[RunInputs, Summary, Verdicts]:
    """`base`, and a `tuned` that is four times as slow and answers `right` of 90 rightly."""
    write_prompts(run, {f"q{i}": "yes" for i in range(90)})
    for block in range(1, 5):
        for variant, slow, good in (("base", 1.0, 80), ("tuned", 4.0, right)):
            records = [
                request(i, f"q{i}", 100 * i, 100 * slow * (1 + i % 7 / 100), 60 * slow,
                    output_tokens=9, text="yes" if i < good else "no")
                for i in range(90)
            ]  # fmt: skip
            write_journal(run, variant, block, records)
    tuned = VariantRecord(name="tuned", what=kind, prompt_style="short", kind=kind)  # type: ignore[arg-type]
    asked = inputs(run, ["base", tuned], goals)
    summary = analyse(asked)
    return asked, summary, judge(summary, asked)


def chosen(
    run: Path, kind: str, goals: Goals, right: int = 80, effects: list[KnownEffect] | None = None
) -> RemedyChoice:
    asked, summary, verdicts = measured(run, kind, goals, right)
    [nearest] = nearest_first(summary, verdicts)
    choice = choose(nearest, summary, asked, Knowledge(effects=effects or []))
    assert choice is not None
    return choice


def kinds(choice: RemedyChoice) -> list[str]:
    return [each.remedy.kind for each in choice.remedies]


def test_what_binds_decides_which_remedies_there_are(tmp_path: Path) -> None:
    slow = chosen(tmp_path / "slow", "adapter", Goals({"latency_p90": "150ms"}))
    assert kinds(slow)[:2] == ["distil 50%", "quantize w8a8-int8"]
    assert "merge" in kinds(slow)
    bad = chosen(tmp_path / "bad", "quantized", Goals({}, {"min": "80%"}), right=40)
    assert "gentler quantization" in kinds(bad)
    assert not {"merge", "distil 50%", "quantize w8a8-int8", "prune 25%"} & set(kinds(bad))


def test_what_is_enough_and_costs_no_quality_comes_before_a_larger_effect(tmp_path: Path) -> None:
    """Where a merge is enough, no smaller model is tried first."""
    enough = chosen(tmp_path, "adapter", Goals({"latency_p90": "390ms"}))
    assert kinds(enough)[0] == "merge"
    keeps = [each.keeps for each in enough.remedies if (each.factor or 1.0) <= 390 / 424]
    assert keeps == sorted(keeps, reverse=True)


def test_what_is_not_settled_is_no_limit_kept_and_what_nobody_knows_is_not_enough(
    tmp_path: Path,
) -> None:
    """380 ms are within the limit of 390 ms, but their bound of 400 ms is not, nor 98 % of it."""
    asked, summary, verdicts = measured(tmp_path, "adapter", Goals({"latency_p90": "390ms"}))
    [nearest] = nearest_first(summary, verdicts)
    [objective] = nearest.objectives
    value = Estimate(value=380.0, low=360.0, high=400.0)
    verdict = replace(nearest, objectives=[replace(objective, value=value, outcome="unsettled")])
    words = Advice(remedy="A little", why="", effect="", source="")
    little = Remedy("candidate", 0.98, words, Patch({"name": "little"}))
    choice = choose(verdict, summary, asked, Knowledge(offered=[little]))
    assert choice is not None
    known = [each for each in choice.remedies if each.factor is not None]
    assert known[-1].remedy is little
    assert len(known) > 2
    assert all(each.factor is None for each in choice.remedies[len(known) :])
    assert len(choice.remedies) > len(known)


def test_what_would_break_a_quality_floor_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """The score is 88.9 %: at 95 % of it pruning leaves 84.4 %, under a floor of 85 %."""
    goals = Goals({"latency_p90": "150ms"}, {"min": "85%"})
    choice = chosen(tmp_path, "merged", goals)
    assert "prune 25%" not in kinds(choice)
    assert "quantize w8a8-int8" in kinds(choice)  # 98 % of it is 87.1 %
    [why] = [each.why for each in choice.skipped if each.remedy.startswith("Prune")]
    assert "84.4 %" in why and "85" in why


def test_what_was_measured_here_changes_the_order(tmp_path: Path) -> None:
    """Distilling did nothing here: of its 0.65 or so remain 0.8, more than of int8."""
    goals = Goals({"latency_p90": "150ms"})
    assert kinds(chosen(tmp_path / "a", "merged", goals))[0] == "distil 50%"
    effects = [known("distil 50%", 0.625, 1.0)]
    assert kinds(chosen(tmp_path / "b", "merged", goals, effects=effects))[0] != "distil 50%"


def test_the_baseline_is_improved_only_where_it_is_alone(tmp_path: Path) -> None:
    _, summary, verdicts = measured(tmp_path, "adapter", Goals({"latency_p90": "50ms"}))
    assert [verdict.variant for verdict in nearest_first(summary, verdicts)] == ["tuned"]


def test_what_was_measured_longer_and_shown_to_fail_is_open_no_more() -> None:
    """It was not settled in its own round; the last run shows that it breaks its limit."""
    tried = TriedRemedy(
        variant="t-int8", kind="quantize w8a8-int8", remedy="", change="", source="",
        published=0.6, expected=0.6, score_published=1.0, score_expected=1.0,
        decision="INCONCLUSIVE", headline="t-int8: INCONCLUSIVE",
    )  # fmt: skip
    round_ = ImproveRound(
        number=1, folder="", variant="t", metric="latency_p90", label="", floor=False,
        about="latency", binding="", blocks=4, tried=[tried], skipped=[],
    )  # fmt: skip

    def nearest(name: str) -> VariantVerdict:
        return VariantVerdict(
            variant=name, is_baseline=False, decision="DON'T SHIP", objectives=[], advice=[],
            headline=f"{name}: DON'T SHIP", question=None, reasons=[], binding=None,
        )  # fmt: skip

    assert nothing_left(nearest("t-int8"), [round_], None)[0] == "reconsider"
    assert nothing_left(nearest("t"), [round_], None)[0] == "not settled"


def test_options_that_the_engine_has_are_known_in_any_spelling() -> None:
    engine = {"max_num_batched_tokens": 16384, "speculative_config": {"method": "ngram"}}
    keys = {"name": "v", "serve": {"engine": {"speculative-config": None}}}
    experiment = Experiment.model_validate(
        {
            "name": "e", "model": "org/m", "data": {"prompt": "hi"}, "baseline": "base",
            "variants": [{"name": "base"}, keys], "serve": {"engine": engine},
            "workload": {"stages": [{"rate": 10, "requests": 90}]},
        }
    )  # fmt: skip
    served = settings_of(experiment, {}).served
    options = served["base"]["engine"]
    assert isinstance(options, dict) and set(options) == {
        "max-num-batched-tokens", "speculative-config",
    }  # fmt: skip
    assert served["v"]["engine"] == {"max-num-batched-tokens": 16384}
