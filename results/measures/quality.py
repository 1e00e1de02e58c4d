"""The quality of an answer: named scorers from 0 to 1, each of which states its normalisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from foundation.run.records import Prompt
from foundation.run.requests import Requests
from results.answer_text import json_text, pattern
from results.answer_text.normal_form import FOLDED, TRIMMED, fold, normalise
from results.answer_text.numbers import READ, Tolerance, last_number, parse_tolerance
from results.answer_text.tokens import STATED, find, terms, words
from results.config import QualityConfig, Scorer, Scoring

STATEMENTS: dict[Scorer, str] = {
    "exact_match": (
        f"1 where answer and reference are equal, else 0. {FOLDED}, {TRIMMED}; signs and symbols "
        "do (-5, C++, 50%)"
    ),
    "contains": (
        f"1 where the answer holds the reference, {STATED}; else 0. {FOLDED}. Negations are not "
        "understood"
    ),
    "number": (
        "1 where the last number of the answer is that of the reference, within the tolerance if "
        f"one is given; else 0. Read are {READ}"
    ),
    "f1": (
        "harmonic mean of precision and recall over words, counted as often as they occur. "
        f"{FOLDED}; a number keeps its sign and decimals, a word its + or # (C++), other "
        "punctuation is dropped, and in scripts without spaces each character is a word"
    ),
    "rouge_l": (
        "F1 of the longest common subsequence of words, which are runs of letters and digits, in "
        f"scripts without spaces each character. {FOLDED}"
    ),
    "json_valid": (
        "1 where the answer, taken out of a ``` fence if it stands in one, is JSON by RFC 8259, "
        f"else 0: no NaN, no text around it, at most {json_text.DEPTH} levels deep; a name may "
        "stand twice in an object"
    ),
    "json_equal": (
        "1 where answer and reference are equal as JSON (as json_valid reads it), else 0: numbers "
        "exactly, so 1 and 1.0 are equal, 1 and true are not; order of names and spaces do not "
        "matter; an object with a name twice equals nothing"
    ),
    "regex": (
        "1 where the pattern is found in the answer and its first group, if it has one, is the "
        f"reference (as in exact_match); else 0. A search over {pattern.SECONDS:g} s is given up, "
        "scores 0 and is counted"
    ),
    "choice": (
        f"1 where the label that the answer names first, {STATED}, is the reference (of two at "
        f"one place the longer); else 0. {FOLDED}. Negations are not understood"
    ),
}
NEEDS_NO_REFERENCE = ("json_valid", "regex")


MANY_SLOW = 20
"""So many searches given up, and the pattern says nothing about this question set."""


def score(scoring: Scoring, answer: str, reference: str | None) -> float:
    """0 to 1.

    Without a reference only json_valid and regex can score; raises ValueError for the others.
    """
    try:
        return _score(scoring, answer, reference)
    except pattern.TooSlow:
        return 0.0


def _score(scoring: Scoring, answer: str, reference: str | None) -> float:
    if reference is None and scoring.scorer not in NEEDS_NO_REFERENCE:
        raise ValueError(f"{scoring.scorer} needs a reference")
    return _SCORERS[scoring.scorer](scoring, answer, reference or "")


def statement(quality: QualityConfig) -> str:
    """How the answers of a run are scored, and those of its probes."""
    sentences = [f"{quality.scorer}: {STATEMENTS[quality.scorer]}."]
    sentences += [
        f"Probe {probe.name}, {probe.scorer}: {STATEMENTS[probe.scorer]}."
        for probe in quality.probes
    ]
    return " ".join(sentences)


def why_no_reference(scoring: Scoring, reference: str) -> str | None:
    """Why no answer can match this reference, and what to write instead; None if one can."""
    if (
        scoring.scorer == "choice"
        and scoring.labels
        and normalise(reference) not in map(normalise, scoring.labels)
    ):
        labels = ", ".join(scoring.labels)
        return (
            f"{reference!r} is none of the labels ({labels}); "
            "write one of them, or add it to labels"
        )
    if scoring.scorer == "number" and last_number(reference) is None:
        return f"{reference!r} holds no number that can be read; write one such as 1234.5"
    if scoring.scorer == "json_equal":
        try:
            value = json_text.parse(reference)
        except ValueError as error:
            return f"{reference!r} is not JSON ({error})"
        if not json_text.same(value, value):
            return f"{reference!r} has a name twice in one object; leave one out"
    return None


def _exact_match(_: Scoring, answer: str, reference: str) -> float:
    return float(normalise(answer) == normalise(reference))


def _contains(_: Scoring, answer: str, reference: str) -> float:
    return float(find(normalise(reference), fold(answer)) is not None)


def _number(scoring: Scoring, answer: str, reference: str) -> float:
    value, correct = last_number(answer), last_number(reference)
    if value is None or correct is None:
        return 0.0
    return float(value.equals(correct, _tolerance(scoring.tolerance)))


@lru_cache
def _tolerance(text: str | None) -> Tolerance | None:
    return None if text is None else parse_tolerance(text)


def _f1(_: Scoring, answer: str, reference: str) -> float:
    ours, theirs = terms(fold(answer)), terms(fold(reference))
    if not ours and not theirs:
        return float(normalise(answer) == normalise(reference))
    return _f(sum((Counter(ours) & Counter(theirs)).values()), len(ours), len(theirs))


def _rouge_l(_: Scoring, answer: str, reference: str) -> float:
    ours, theirs = words(fold(answer)), words(fold(reference))
    if not ours and not theirs:
        return float(normalise(answer) == normalise(reference))
    return _f(_common_subsequence(ours, theirs), len(ours), len(theirs))


def _f(shared: int, ours: int, theirs: int) -> float:
    """The F1 of `shared` common words between texts of `ours` and `theirs` words."""
    return 2 * shared / (ours + theirs)


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, one bit a word of `b` (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for j, word in enumerate(b):
        places[word] = places.get(word, 0) | 1 << j
    every = rest = (1 << len(b)) - 1
    for word in a:
        taken = rest & places.get(word, 0)
        rest = (rest + taken | rest - taken) & every
    return len(b) - rest.bit_count()


def _json_valid(_: Scoring, answer: str, reference: str) -> float:
    try:
        json_text.parse(answer)
    except ValueError:
        return 0.0
    return 1.0


def _json_equal(_: Scoring, answer: str, reference: str) -> float:
    try:
        return float(json_text.same(json_text.parse(answer), json_text.parse(reference)))
    except ValueError:
        return 0.0


def _regex(scoring: Scoring, answer: str, reference: str) -> float:
    match = pattern.search(scoring.pattern or "", answer)
    if match is None:
        return 0.0
    return float(
        not match.groups() or not reference or normalise(match[1] or "") == normalise(reference)
    )


def _choice(scoring: Scoring, answer: str, reference: str) -> float:
    text = fold(answer)
    places = [
        (at, -len(label), label)
        for label in map(normalise, scoring.labels)
        if (at := find(label, text)) is not None
    ]
    return float(bool(places) and min(places)[2] == normalise(reference))


_SCORERS: dict[Scorer, Callable[[Scoring, str, str], float]] = {
    "exact_match": _exact_match,
    "contains": _contains,
    "number": _number,
    "f1": _f1,
    "rouge_l": _rouge_l,
    "json_valid": _json_valid,
    "json_equal": _json_equal,
    "regex": _regex,
    "choice": _choice,
}


def with_labels(scoring: Scoring, prompts: Iterable[Prompt]) -> Scoring:
    """The scoring of a question set. `choice` without labels chooses among the set's references."""
    if scoring.scorer != "choice" or scoring.labels:
        return scoring
    return scoring.model_copy(
        update={"labels": tuple(sorted({p.reference for p in prompts if p.reference is not None}))}
    )


class PromptScores(NamedTuple):
    """The mean score of each prompt, and how many searches of a pattern were given up.

    With `MANY_SLOW` of them the pattern measures nothing, and there are no scores.
    """

    scores: dict[str, float]
    slow: int

    def note(self) -> str | None:
        """What a reader of the scores has to know."""
        if not self.slow:
            return None
        means = (
            "nothing is scored by it; write a simpler one"
            if self.slow >= MANY_SLOW
            else "they count as wrong"
        )
        after = f"{pattern.SECONDS:g} s on {self.slow} answers"
        return f"the pattern's search was given up after {after}: {means}"


def prompt_scores(
    blocks: Iterable[Requests], prompts: Mapping[str, Prompt], scoring: Scoring
) -> PromptScores:
    """The mean score of each prompt over its requests; a failed request scores 0.

    Prompts that can't be scored are left out.
    """
    scores: dict[str, list[float]] = {}
    slow = 0
    for requests in blocks:
        for prompt_id, text, ok in zip(
            requests.prompt_id, requests.text, requests.ok.tolist(), strict=True
        ):
            prompt = prompts.get(prompt_id)
            if prompt is None or (
                prompt.reference is None and scoring.scorer not in NEEDS_NO_REFERENCE
            ):
                continue
            try:
                value = _score(scoring, text, prompt.reference) if ok else 0.0
            except pattern.TooSlow:
                value, slow = 0.0, slow + 1
                if slow >= MANY_SLOW:
                    return PromptScores({}, slow)
            scores.setdefault(prompt_id, []).append(value)
    return PromptScores(
        {prompt_id: float(np.mean(values)) for prompt_id, values in scores.items()}, slow
    )
