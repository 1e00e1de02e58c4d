"""What-if questions: what is read, what is refused, and what changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import BadInput
from results.capacity.plan.questions import PlanQuestion, parse_question
from results.config import PlanConfig, Slo

PLAN = PlanConfig.model_validate(
    {"peak_rate": 10, "mean_rate": 4, "day": [1] * 23 + [8], "startup": "90s", "headroom": "10%"}
)


@pytest.mark.parametrize(
    "text",
    [
        "output_tokens*0.5",
        "input_tokens=512",
        "prompt=short",
        "rate*10",
        "rate = 600/min",
        "slo.ttft_p95=300ms",
        "replicas=3",
        "headroom=30%, spare=0 , burst=1.5",
        "price*0.5",
        "price=$2.50",
    ],
)
def test_a_question_is_read(text: str) -> None:
    question = parse_question(text)
    assert question.text == text
    assert len(question.changes) == text.count(",") + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write output_tokens"),
        ("output_tokens", "write output_tokens"),
        ("output_token*2", "did you mean 'output_tokens'"),
        ("rate*0", "a factor above zero"),
        ("rate*-1", "rate: "),
        ("rate=0", "a rate above zero"),
        ("replicas=0", "a whole number above zero"),
        ("replicas=2.5", "a whole number above zero"),
        ("replicas*2", "replicas has no factor"),
        ("slo.ttft_p59=300ms", "did you mean 'ttft_p"),
        ("slo.ttft_p95=300", "a duration"),
        ("rate*2,rate*3", "rate is changed twice"),
        ("rate*2,", "write output_tokens"),
        ("spare=0.5", "a whole number"),
        ("headroom=5", "a share"),
        ("price=free", "an amount in dollars"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_question(text)
    assert words in str(refused.value)
    assert str(refused.value).startswith("--what-if ")
    assert "\n" not in str(refused.value).replace(text, "")


@settings(max_examples=40)
@given(st.text(max_size=40) | st.from_regex(r"[a-z_.]{1,14} ?[*=] ?[0-9a-z.%$/]{1,8}"))
def test_any_text_is_a_question_or_refused(text: str) -> None:
    try:
        question = parse_question(text)
    except BadInput:
        return
    assert isinstance(question, PlanQuestion)
    assert parse_question(question.text) == question


@given(st.floats(0.01, 100).map(lambda factor: float(f"{factor:.4g}")))
def test_all_traffic_changes_in_proportion(factor: float) -> None:
    changed = parse_question(f"rate*{factor!r}").plan(PLAN)
    assert changed.peak == pytest.approx(10 * factor)
    assert changed.mean == pytest.approx(4 * factor)
    assert changed.day == pytest.approx(tuple(rate * factor for rate in PLAN.day))
    assert (changed.startup, changed.headroom) == (90.0, 0.1)


def test_other_limits_take_the_place_of_those_of_the_same_metric() -> None:
    slo = Slo.model_validate({"ttft_p95": "500ms", "error_rate": "1%"})
    changed = parse_question("slo.ttft_p95=300ms").slo(slo)
    assert {metric: limit.text for metric, limit in changed.limits.items()} == {
        "ttft_p95": "300ms",
        "error_rate": "1%",
    }
    assert parse_question("rate*2").slo(slo) is slo


def test_a_plan_that_can_not_be_is_refused() -> None:
    with pytest.raises(BadInput, match="a share below 100%"):
        parse_question("headroom=100%").plan(PLAN)
    with pytest.raises(BadInput, match="write at least 1"):
        parse_question("burst=0.5").plan(PLAN)


def test_requests_that_are_shorter_are_told_from_other_ones() -> None:
    styles = {"a": "short", "b": "long"}
    for text, kinds in (
        ("rate*2", {}),
        ("output_tokens*0.5", {"a": "lighter", "b": "lighter"}),
        ("output_tokens*0.5, input_tokens*2", {"a": "other", "b": "other"}),
        ("input_tokens=5", {"a": "other", "b": "other"}),
        ("prompt=short", {"b": "other"}),
        ("prompt=short, output_tokens*0.5", {"a": "lighter", "b": "other"}),
    ):
        assert parse_question(text).requests(styles) == kinds


def test_only_models_know_of_other_requests() -> None:
    assert parse_question("output_tokens*2").needs_model
    assert parse_question("prompt=short").needs_model
    assert not parse_question("rate*2, slo.ttft_p95=1s, replicas=3").needs_model
    assert parse_question("replicas=3").replicas == 3
    assert parse_question("price*0.5").price(2.0) == 1.0
    assert parse_question("price=$3").price(2.0) == 3.0
