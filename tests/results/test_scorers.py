"""What each scorer takes for the same, by tables that a person can check."""

from __future__ import annotations

import json
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foundation.run.records import Prompt
from foundation.run.requests import requests_of
from results.answer_text.normal_form import fold, normalise
from results.answer_text.numbers import last_number
from results.answer_text.pattern import SECONDS
from results.config import QualityConfig, Scorer, Scoring
from results.measures.quality import (
    MANY_SLOW,
    STATEMENTS,
    prompt_scores,
    score,
    statement,
    why_no_reference,
)
from tests.results.synthetic import request

SAME = [
    ("Grain.", "grain"), ("Yes!", "yes"), (' "New  York"\n', "new york"), ("**Paris**", "paris"),
    ("`x`", "x"), ('"Paris".', "paris"), ("«Paris»", "paris"), ("東京。", "東京"), ("हाँ।", "हाँ"),
    ("5.", "5"), ("ﬁne", "fine"), ("ＡＢＣ", "abc"), ("Straße", "STRASSE"),
    ("İstanbul", "istanbul"),
    ("HAYIR", "hayır"), ("café", "cafe\N{COMBINING ACUTE ACCENT}"), ("ΟΔΟΣ", "οδος"), ("٥", "5"),
    ("−5", "-5"), ("don’t", "don't"), ("a\N{ZERO WIDTH SPACE}b", "ab"), ("½", "1/2"),
    ("10²", "10^2"), ("e‑mail", "e-mail"), ("a\N{NO-BREAK SPACE}b", "a b"),
]  # fmt: skip
DIFFERENT = [
    ("-5", "5"), ("+5", "5"), ("C++", "C"), ("C#", "C"), ("50%", "50"), ("5!", "5"), ("$5", "5"),
    ("#5", "5"), ("(a)", "a"),
    ("__init__", "init"), ("10²", "102"), ("1½", "11/2"), (".5", "5"), ("x*", "x"), ("...", ""),
    ("👍", "👎"), ("5.0", "5"), ("café", "cafe"), ("U.S.", "US"), ("A-", "A"),
    ("https://a.b/c", "https://a.b/d"), ("~5", "5"), ("<5", ">5"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reference"), SAME)
def test_what_exact_match_takes_for_the_same(answer: str, reference: str) -> None:
    assert score(Scoring(), answer, reference) == score(Scoring(), reference, answer) == 1


@pytest.mark.parametrize(("answer", "reference"), DIFFERENT)
def test_what_exact_match_tells_apart(answer: str, reference: str) -> None:
    assert score(Scoring(), answer, reference) == score(Scoring(), reference, answer) == 0


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert normalise(normalise(text)) == normalise(text)


def test_a_digit_that_python_does_not_know_yet_is_a_sign_like_others() -> None:
    """U+16D70 came with Unicode 16; Python 3.11 has 14."""
    text = "\U00016d70"
    assert score(Scoring(), text, text) == 1
    assert score(Scoring(scorer="number"), text, "0") == 0


HELD = [
    ("-5", "x=-5"), ("5", "is 5, then"), ("5", "5."), ("5", "3-5"), ("3", "3-5"), ("5", "Answer:5"),
    ("$5", "costs $5."),
    ("50%", "about 50%."), ("C++", "I like C++."), ("C++", "C++11"), ("C#", "use C#!"),
    ("C", "C, then"), ("A+", "Grade: A+."),
    (".NET", "the .NET runtime"), ("Paris", "Paris's"), ("Paris", "**Paris**"),
    ("Paris", "Paris--the"), ("spam", "#spam"),
    ("Italie", "l'Italie"), ("A", "(A)"), ("1", "1. Paris"), ("yes", "yes/no"),
    ("New York", "in new  york city"), ("中国", "我在中国。"), ("是", "不是"), ("5", "答案是5。"),
    ("5", "第5个"),
    ("東京", "東京都です"), ("インド", "私はインド人"),
    ("กรุงเทพ", "เมืองหลวงคือกรุงเทพมหานคร"), ("서울", "정답은 서울입니다"), ("हिन्दी", "यह हिन्दी है"),
    ("٥", "الجواب ٥"), ("café", "cafe\N{COMBINING ACUTE ACCENT} noir"),
    ("Straße", "in der STRASSE"), ("3", "das ３."), ("fine", "a ﬁne day"),
]  # fmt: skip
NOT_HELD = [
    ("5", "3.5"), ("5", "15"), ("5", "5.2"), ("5", "1,5"), ("5", "-5"), ("5", "5%"), ("5", "$5"),
    ("5", "5€"), ("5", "5:30"),
    ("5", "1/5"), ("5", "-.5"), ("-5", "3-5"), ("2", "10^2"), ("C", "C++"), ("C", "C#"),
    ("C", "C++11"), ("C+", "C++"), ("A", "A+"), ("A", "A-"), ("A", "N/A"), ("NET", ".NET"),
    ("Paris", "Parisian"), ("can", "can't"), ("toxic", "non-toxic"),
    ("no", "know"), ("no", "not"), ("5", "第15个"), ("イン", "インド"), ("울", "서울"),
    ("हिन्द", "हिन्दी"),
    ("5", "١٥"), ("cafe", "cafe\N{COMBINING ACUTE ACCENT}"), ("R", "R&D"), ("3", "the ３rd"),
    ("", "anything"),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "answer"), HELD)
def test_contains_finds_whole_tokens(reference: str, answer: str) -> None:
    assert score(Scoring(scorer="contains"), answer, reference) == 1


@pytest.mark.parametrize(("reference", "answer"), NOT_HELD)
def test_contains_finds_no_part_of_a_token(reference: str, answer: str) -> None:
    assert score(Scoring(scorer="contains"), answer, reference) == 0


@pytest.mark.parametrize(
    ("labels", "answer", "chosen"),
    [
        (("C", "C++", "C#"), "C++ it is, not C", "C++"),
        (("C", "C++", "C#"), "C# it is", "C#"),
        (("C", "C++", "C#"), "Plain C.", "C"),
        (("1", "2", "3"), "3.5 is wrong, so 2", "2"),
        (("-1", "0", "1"), "The label is -1", "-1"),
        (("是", "不是"), "不是。", "不是"),
        (("ポジ", "ネガ"), "これはネガです", "ネガ"),
        (("positive", "non-positive"), "Non-positive", "non-positive"),
        (("yes", "no"), "I know: yes", "yes"),
        (("A", "B"), "N/A", None),
        (("A", "B"), "", None),
    ],
)
def test_choice_takes_the_label_that_is_named_first(
    labels: tuple[str, ...], answer: str, chosen: str | None
) -> None:
    scoring = Scoring(scorer="choice", labels=labels)
    assert [label for label in labels if score(scoring, answer, label)] == (
        [chosen] if chosen else []
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is 42.", "42"), ("1,234", "1234"), ("1,234.50", "1234.5"),
        ("1.234,5", "1234.5"), ("3,5", "3.5"), ("0,125", "0.125"), ("1 000 000", "1000000"),
        ("1’000", "1000"), ("1.234.567", "1234567"), ("1,23,456", "123456"),
        ("-5", "-5"), ("−$5", "-5"), ("3-5", "5"), ("x=-5", "-5"), ("50%", "0.5"),
        ("50 per cent", "0.5"), ("€5", "5"), ("1e3", "1000"), ("1.5 × 10³", "1500"),
        ("3/4", "0.75"), ("1½", "1.5"), ("5 million", "5000000"), ("٣٫٥", "3.5"),
        ("5个", "5"), ("2 + 2 = 4", "4"), ("**7**", "7"), ("v2", None), ("5km", None),
        ("1.2.3", None), ("10:30", None), ("5/12/2024", None), ("1/0", None),
        ("1e99999999999999999999", None), ("none", None), ("10²", None),
    ],
)  # fmt: skip
def test_numbers_are_read_in_one_way_or_not_at_all(text: str, value: str | None) -> None:
    number = last_number(text)
    assert (number.value if number else None) == (Decimal(value) if value else None)


@pytest.mark.parametrize(
    ("answer", "reference", "tolerance", "expected"),
    [
        ("It is 1,000.0", "1000", None, 1), ("-5", "5", None, 0), ("50%", "0.5", None, 1),
        ("50%", "50", None, 0), ("$5", "5", None, 1), ("$5", "€5", None, 0),
        ("0.1", "0.10", None, 1), ("3.14", "3.1415", None, 0),
        ("3.14", "3.1415", "0.01", 1), ("99", "100", "1%", 1), ("98.9", "100", "1%", 0),
        ("101", "100", "1%", 1), ("9" * 400 + "1", "9" * 400 + "2", None, 0),
        ("no idea", "5", None, 0),
    ],
)  # fmt: skip
def test_number_compares_values(
    answer: str, reference: str, tolerance: str | None, expected: float
) -> None:
    assert score(Scoring(scorer="number", tolerance=tolerance), answer, reference) == expected


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("NaN", 0), ("[Infinity]", 0), ("-Infinity", 0), ("1 2", 0), ("{} and more", 0), ("", 0),
        ("01", 0), ("+1", 0), ("\N{BYTE ORDER MARK}{}", 0), ("[1,]", 0), ("'a'", 0), ("{a: 1}", 0),
        ('"a\tb"', 0), ("\N{NO-BREAK SPACE}1", 0), ("[" * 10_000 + "]" * 10_000, 0),
        ("[" * 100_000, 0), ('{"a":' * 5000, 0), ("[" * 150 + "]" * 150, 1),
        (' \r\n\t"\\ud800" ', 1), ("1e999999999", 1), ("1e" + "9" * 5000, 1), ("9" * 6000, 1),
        ('{"a": 1, "a": 2}', 1), ("null", 1), ("```json\n[1]\n```", 1), ('"' + "[" * 1000 + '"', 1),
        ("-0.0", 1),
    ],
)  # fmt: skip
def test_json_valid_is_rfc_8259(text: str, valid: float) -> None:
    assert score(Scoring(scorer="json_valid"), text, None) == valid


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("1", "1.0", 1), ("1", "1e0", 1), ("0.1", "0.10", 1), ("1", "true", 0), ("0", "false", 0),
        ("-0", "0", 1), ("1", '"1"', 0),
        ("9007199254740993", "9007199254740992", 0), ("0.1", "0.10000000000000000555", 0),
        ("1e400", "2e400", 0), ("1e999999999", "1e999999999", 1), ("1e999999999", "1e999999998", 0),
        ("null", "false", 0), ("[]", "{}", 0),
        ('{"a": [1, {"b": 2}]}', '{"a": [1.0, {"b": 2e0}]}', 1),
        ('{"a": 1, "a": 1}', '{"a": 1}', 0), ("[[1]]", "[[1], []]", 0),
        ("{}", "[]", 0), ('{"é": 1}', '{"\\u00e9": 1}', 1), ('"a"', '"A"', 0),
    ],
)  # fmt: skip
def test_json_equal_compares_numbers_exactly(answer: str, reference: str, equal: float) -> None:
    assert score(Scoring(scorer="json_equal"), answer, reference) == equal


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_json_writes_is_valid_and_equals_itself_however_it_is_laid_out(value: object) -> None:
    text, other = json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)
    assert score(Scoring(scorer="json_valid"), text, None) == 1
    assert score(Scoring(scorer="json_equal"), text, other) == 1


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("-5", "5", 0), ("3.5", "3.6", 0), ("C++", "C", 0), ("!!!", "???", 0), ("?", "?", 1),
        ("", "yes", 0), ("我爱北京", "我爱上海", 0.5), ("Straße", "STRASSE", 1),
        ("cafe\N{COMBINING ACUTE ACCENT}", "café", 1),
        ("हिन्दी भाषा", "हिन्दी", 2 / 3), ("the cat, sat.", "The cat sat", 1), ("ไทย", "ไทย", 1),
    ],
)  # fmt: skip
def test_f1_counts_words_of_any_script(answer: str, reference: str, expected: float) -> None:
    assert score(Scoring(scorer="f1"), answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("我爱北京", "北京我爱", 0.5), ("我爱北京", "我爱北京", 1),
        ("東京タワー", "東京ドーム", 2 * 2 / (3 + 3)),
        ("", "a", 0), ("the dog bit the man", "the man bit the dog", 2 * 3 / 10),
        ("a b c d", "b d", 2 * 2 / 6), ("👍", "👎", 0),
    ],
)  # fmt: skip
def test_rouge_l_counts_words_of_any_script(answer: str, reference: str, expected: float) -> None:
    assert score(Scoring(scorer="rouge_l"), answer, reference) == pytest.approx(expected)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_rouge_l_agrees_with_the_textbook_table(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            )
    expected = 2 * table[-1][-1] / (len(a) + len(b)) if a or b else 1
    assert score(Scoring(scorer="rouge_l"), " ".join(a), " ".join(b)) == pytest.approx(expected)


EXPLODES = r"^(.*?,){12}P$"
SLOW_ANSWER = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30" * 2


def _asked(answers: list[str]) -> tuple[list[object], dict[str, Prompt]]:
    prompts = {f"p{i}": Prompt(id=f"p{i}", set="eval", messages={}) for i in range(len(answers))}
    return [
        requests_of([request(i, f"p{i}", 0, 1, text=text) for i, text in enumerate(answers)])
    ], prompts


def test_a_pattern_that_explodes_is_given_up_and_counted() -> None:
    began = time.monotonic()
    blocks, prompts = _asked(["1,2,3,4,5,6,7,8,9,10,11,12,P", SLOW_ANSWER])
    scores = prompt_scores(blocks, prompts, Scoring(scorer="regex", pattern=EXPLODES))
    assert scores == ({"p0": 1.0, "p1": 0.0}, 1)
    assert "given up" in str(scores.note()) and "on 1 answers: they count as wrong" in str(
        scores.note()
    )
    assert score(Scoring(scorer="regex", pattern=EXPLODES), SLOW_ANSWER, None) == 0
    assert time.monotonic() - began < 60 * SECONDS


def test_a_pattern_that_explodes_everywhere_scores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.answer_text.pattern.SECONDS", 0.01)
    scores = prompt_scores(
        *_asked([SLOW_ANSWER] * (MANY_SLOW + 5)), Scoring(scorer="regex", pattern=EXPLODES)
    )
    assert scores == ({}, MANY_SLOW)
    assert "nothing is scored by it" in str(scores.note())


@pytest.mark.parametrize(
    ("scoring", "reference", "says"),
    [
        (
            {"scorer": "choice", "labels": ["yes", "no"]},
            "maybe",
            "'maybe' is none of the labels (yes, no)",
        ),
        ({"scorer": "choice", "labels": ["yes", "no"]}, "YES.", None),
        ({"scorer": "choice"}, "maybe", None),
        ({"scorer": "number"}, "many", "no number"),
        ({"scorer": "number"}, "about 1,000", None),
        ({"scorer": "json_equal"}, "{a}", "not JSON"),
        ({"scorer": "json_equal"}, '{"a": 1, "a": 1}', "twice"),
        ({"scorer": "json_equal"}, "[1]", None),
        ({"scorer": "exact_match"}, "anything", None),
    ],
)
def test_a_reference_that_no_answer_can_match_is_named(
    scoring: dict[str, object], reference: str, says: str | None
) -> None:
    why = why_no_reference(Scoring.model_validate(scoring), reference)
    assert why is None if says is None else says in str(why)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"labels": ["Yes", "yes."]}, "'Yes' and 'yes.' are one label"),
        ({"labels": ["ﬁ", "fi"]}, "are one label"),
        ({"labels": ["a", " "]}, "no label"),
        ({"scorer": "number", "tolerance": "1,5"}, "write an amount such as 0.01"),
        ({"scorer": "number", "tolerance": "-1%"}, "write an amount such as 0.01"),
        ({"scorer": "number", "tolerance": "nan"}, "write an amount such as 0.01"),
        ({"scorer": "exact_match", "tolerance": 1}, "tolerance belongs to the scorer number"),
    ],
)
def test_a_scoring_that_means_nothing_is_refused(config: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        QualityConfig.model_validate(config)
    assert says in str(error.value)


def test_every_scorer_states_its_normalisation_and_those_of_probes_stand_beside_it() -> None:
    assert set(STATEMENTS) == set(Scorer.__args__)
    probe = {"name": "general", "data": "x", "scorer": "contains"}
    statements = statement(QualityConfig.model_validate({"scorer": "number", "probes": [probe]}))
    assert (
        statements.startswith("number: 1 where")
        and "Probe general, contains: 1 where" in statements
    )
