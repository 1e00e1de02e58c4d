"""Scorers, each against answers that a person can score."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foundation.run.records import Prompt
from foundation.run.requests import requests_of
from results.analysis import analyse
from results.answer_text.normal_form import normalise
from results.config import Probe, QualityConfig, Scorer, Scoring
from results.measures.consistency import looks_of, prompt_consistency
from results.measures.quality import STATEMENTS, prompt_scores, score, statement, with_labels
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

SCORED: list[tuple[Scorer, str, str, float]] = [
    ("exact_match", " Grain.\n", "grain", 1),
    ("exact_match", "grain and ship", "grain", 0),
    ("exact_match", '"New  York"', "new york", 1),
    ("contains", "The capital is Paris, of course.", "Paris", 1),
    ("contains", "Parisian life", "Paris", 0),
    ("contains", "money-fx it is", "money-fx", 1),
    ("f1", "the cat sat", "the cat sat down", 2 * 3 / 7),
    ("f1", "a a a", "a", 2 * 1 / 4),
    ("f1", "", "", 1),
    ("f1", "dog", "cat", 0),
    (
        "rouge_l",
        "police killed the gunman",
        "police kill the gunman",
        0.75,
    ),  # police the gunman: 3 of 4 and 4
    ("rouge_l", "the gunman police killed", "police killed the gunman", 0.5),
    ("json_valid", '{"a": [1, 2]}', "", 1),
    ("json_valid", '```json\n{"a": 1}\n```', "", 1),
    ("json_valid", "{'a': 1}", "", 0),
    ("json_equal", '{"b": 2.0, "a": 1}', '{"a": 1, "b": 2}', 1),
    ("json_equal", '{"a": true}', '{"a": 1}', 0),
    ("json_equal", "[1, 2]", "[2, 1]", 0),
    ("json_equal", "oops", "[1]", 0),
]


@pytest.mark.parametrize(("scorer", "answer", "reference", "expected"), SCORED)
def test_scores_by_hand(scorer: Scorer, answer: str, reference: str, expected: float) -> None:
    assert score(Scoring(scorer=scorer), answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Label: B", 1), ("the answer is b", 1), ("A or B", 0), ("none", 0), ("Bee", 0), ("", 0)],
)
def test_choice_takes_the_label_named_first(answer: str, expected: float) -> None:
    assert score(Scoring(scorer="choice", labels=("A", "B")), answer, "B") == expected


def test_choice_prefers_the_longer_label_at_one_place() -> None:
    scoring = Scoring(scorer="choice", labels=("money", "money-fx"))
    assert score(scoring, "money-fx", "money-fx") == 1
    assert score(scoring, "money-fx", "money") == 0


def test_choice_without_labels_chooses_among_the_references() -> None:
    prompts = [
        Prompt(id=i, set="eval", messages={}, reference=r) for i, r in (("1", "yes"), ("2", "no"))
    ]
    assert with_labels(Scoring(scorer="choice"), prompts).labels == ("no", "yes")


@pytest.mark.parametrize(("answer", "expected"), [("total: 12", 1), ("total: 13", 0), ("none", 0)])
def test_regex_compares_its_group(answer: str, expected: float) -> None:
    assert score(Scoring(scorer="regex", pattern=r"total: (\d+)"), answer, "12") == expected


@pytest.mark.parametrize("config", [QualityConfig, Probe])
@pytest.mark.parametrize("pattern", [None, "("])
def test_regex_needs_a_pattern_that_compiles(config: type[Scoring], pattern: str | None) -> None:
    with pytest.raises(ValidationError, match=r"needs a pattern|not a regular expression"):
        config.model_validate(
            {"scorer": "regex", "pattern": pattern, "name": "x", "data": "x"}
            if config is Probe
            else {"scorer": "regex", "pattern": pattern}
        )


@given(st.sampled_from(sorted(STATEMENTS)), st.text(), st.text())
def test_any_answer_scores_from_0_to_1(scorer: Scorer, answer: str, reference: str) -> None:
    labels = (reference,) if normalise(reference) else ()
    assert (
        0 <= score(Scoring(scorer=scorer, labels=labels, pattern="a(b)?"), answer, reference) <= 1
    )


@given(st.sampled_from(["exact_match", "f1", "rouge_l"]), st.text())
def test_an_answer_equal_to_its_reference_scores_1(scorer: Scorer, text: str) -> None:
    assert score(Scoring(scorer=scorer), text, text) == 1


def test_a_failed_request_scores_0_and_unknown_prompts_are_left_out() -> None:
    prompts = {id: Prompt(id=id, set="eval", messages={}, reference="yes") for id in ("a", "b")}
    requests = requests_of(
        [
            request(0, "a", 0, 1, text="yes"),
            request(1, "a", 0, 1, failure="reset"),
            request(2, "b", 0, 1, text="yes"),
            request(3, "c", 0, 1),
        ]
    )
    assert prompt_scores([requests], prompts, Scoring()) == ({"a": 0.5, "b": 1.0}, 0)


def test_consistency_is_the_share_of_equal_pairs() -> None:
    """Three answers, two alike: one pair of three."""
    answers = ["Yes.", "yes", "no"]
    requests = requests_of(
        [request(i, "a", 0, 1, text=text) for i, text in enumerate(answers)]
        + [request(9, "b", 0, 1, text="x")]
    )
    assert prompt_consistency([requests]) == {"a": pytest.approx(1 / 3)}


@given(st.text(max_size=12), st.text(max_size=12))
def test_texts_that_are_the_same_look_the_same(a: str, b: str) -> None:
    for one, other in (
        (a, b),
        (a, f" {a.upper()}."),
        (a, f'"{a}"'),
        (a, unicodedata.normalize("NFKD", a)),
    ):
        if normalise(one) == normalise(other):
            assert looks_of(one) == looks_of(other)


def test_answers_that_look_alike_are_told_apart_by_their_signs() -> None:
    """C, C++ and -1, 1 have the same letters and digits; six pairs, of which one is the same."""
    requests = requests_of(
        [request(i, "a", 0, 1, text=text) for i, text in enumerate(["C", "C++", "c++", "C#"])]
    )
    assert prompt_consistency([requests]) == {"a": pytest.approx(1 / 6)}


def test_the_definition_of_quality_in_a_summary_states_the_scorer(tmp_path: Path) -> None:
    write_prompts(tmp_path, {"a": "5"})
    write_journal(tmp_path, "base", 1, [request(0, "a", 0, 1, text="It is 5.0")])
    summary = analyse(inputs(tmp_path, ["base"], Goals(quality={"scorer": "number"})))
    assert summary.metrics["quality"].definition.endswith(statement(QualityConfig(scorer="number")))
    assert summary.variants[0].metrics["quality"].value == 1


def test_a_pattern_that_explodes_everywhere_leaves_quality_absent_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results.answer_text.pattern.SECONDS", 0.01)
    slow = ",".join(map(str, range(60)))
    write_prompts(tmp_path, {str(i): "x" for i in range(25)})
    write_journal(tmp_path, "base", 1, [request(i, str(i), i, 1, text=slow) for i in range(25)])
    summary = analyse(
        inputs(tmp_path, ["base"], Goals(quality={"scorer": "regex", "pattern": r"^(.*?,){12}P$"}))
    )
    quality = summary.variants[0].metrics["quality"]
    assert quality.value is None and "given up" in str(quality.reason)
    assert any("given up" in note for note in summary.notes)
