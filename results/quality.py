"""How good an answer is: named scorers, each 0 to 1, each with its normalisation said out loud."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from results.config import Scorer, Scoring
from results.records import Prompt
from results.requests import Requests

_EDGES = string.punctuation + string.whitespace + "“”‘’«»…"
_FENCE = re.compile(r"^```\w*\s*\n(.*?)\n?```$", re.DOTALL)


STATEMENTS: dict[Scorer, str] = {
    "exact_match": "1 where answer and reference are equal: lower case, spaces evened out, no punctuation at the ends; else 0",
    "contains": "1 where the reference stands in the answer as whole words, both in lower case with spaces evened out; else 0",
    "f1": "harmonic mean of precision and recall over words in lower case without punctuation, counted as often as they occur",
    "rouge_l": "F1 of the longest common subsequence of words in lower case without punctuation",
    "json_valid": "1 where the answer, taken out of a ``` fence if it has one, is JSON; else 0",
    "json_equal": "1 where answer and reference are equal as JSON: key order, spaces and 1 or 1.0 do not matter; else 0",
    "regex": "1 where the pattern is found in the answer and its first group, if it has one, is the reference; else 0",
    "choice": "1 where the label that the answer names first (whole words, any case) is the reference; else 0",
}
NEEDS_NO_REFERENCE = ("json_valid", "regex")


def score(scoring: Scoring, answer: str, reference: str | None) -> float:
    """0 to 1. Without a reference only json_valid and regex can score; raises ValueError for the others."""
    if reference is None and scoring.scorer not in NEEDS_NO_REFERENCE:
        raise ValueError(f"{scoring.scorer} needs a reference")
    return _SCORERS[scoring.scorer](scoring, answer, reference or "")


def normalise(text: str) -> str:
    """Lower case, spaces evened out, punctuation at the ends dropped."""
    return " ".join(text.lower().split()).strip(_EDGES)


def _exact_match(_: Scoring, answer: str, reference: str) -> float:
    return float(normalise(answer) == normalise(reference))


def _contains(_: Scoring, answer: str, reference: str) -> float:
    return float(_named(normalise(reference), answer) is not None)


def _named(label: str, answer: str) -> int | None:
    """Where a label (lower case) stands in an answer as whole words, None where it does not."""
    found = re.search(rf"(?<!\w){re.escape(label)}(?!\w)", " ".join(answer.lower().split())) if label else None
    return found.start() if found else None


def _f1(_: Scoring, answer: str, reference: str) -> float:
    said, wanted = _words(answer), _words(reference)
    return _f(sum((Counter(said) & Counter(wanted)).values()), len(said), len(wanted))


def _rouge_l(_: Scoring, answer: str, reference: str) -> float:
    said, wanted = _words(answer), _words(reference)
    return _f(_common_subsequence(said, wanted), len(said), len(wanted))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _f(shared: int, said: int, wanted: int) -> float:
    """F1 from counts; two empty texts agree."""
    return 2 * shared / (said + wanted) if said + wanted else 1.0


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def _json(text: str) -> Any:
    fenced = _FENCE.match(text.strip())
    return json.loads(fenced[1] if fenced else text)


def _json_valid(_: Scoring, answer: str, reference: str) -> float:
    try:
        _json(answer)
    except ValueError:
        return 0.0
    return 1.0


def _json_equal(_: Scoring, answer: str, reference: str) -> float:
    try:
        return float(_same(_json(answer), _json(reference)))
    except ValueError:
        return 0.0


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON values; Python's own would take true for 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _regex(scoring: Scoring, answer: str, reference: str) -> float:
    found = re.search(scoring.pattern or "", answer)
    if found is None:
        return 0.0
    return float(not found.groups() or not reference or normalise(found[1] or "") == normalise(reference))


def _choice(scoring: Scoring, answer: str, reference: str) -> float:
    places = [(at, -len(label), label) for label in map(normalise, scoring.labels) if (at := _named(label, answer)) is not None]
    return float(bool(places) and min(places)[2] == normalise(reference))


_SCORERS: dict[Scorer, Callable[[Scoring, str, str], float]] = {
    "exact_match": _exact_match,
    "contains": _contains,
    "f1": _f1,
    "rouge_l": _rouge_l,
    "json_valid": _json_valid,
    "json_equal": _json_equal,
    "regex": _regex,
    "choice": _choice,
}


def with_labels(scoring: Scoring, prompts: Iterable[Prompt]) -> Scoring:
    """The scoring of a question set: `choice` without labels chooses among the references of the set."""
    if scoring.scorer != "choice" or scoring.labels:
        return scoring
    return scoring.model_copy(update={"labels": tuple(sorted({p.reference for p in prompts if p.reference is not None}))})


def prompt_scores(blocks: Iterable[Requests], prompts: Mapping[str, Prompt], scoring: Scoring) -> dict[str, float]:
    """The mean score of each prompt over its requests; a failed request scores 0. Prompts that can't be scored are left out."""
    scores: dict[str, list[float]] = {}
    for requests in blocks:
        for i, prompt_id in enumerate(requests.prompt_id):
            prompt = prompts.get(prompt_id)
            if prompt is None or (prompt.reference is None and scoring.scorer not in NEEDS_NO_REFERENCE):
                continue
            value = score(scoring, requests.text[i], prompt.reference) if requests.ok[i] else 0.0
            scores.setdefault(prompt_id, []).append(value)
    return {prompt_id: float(np.mean(values)) for prompt_id, values in scores.items()}


def prompt_consistency(blocks: Iterable[Requests]) -> dict[str, float]:
    """For each prompt answered more than once: the share of pairs of its answers that are the same, normalised."""
    answers: dict[str, Counter[str]] = {}
    for requests in blocks:
        for i in np.flatnonzero(requests.ok):
            answers.setdefault(requests.prompt_id[i], Counter())[normalise(requests.text[i])] += 1
    return {prompt_id: _equal_pairs(counts) for prompt_id, counts in answers.items() if counts.total() > 1}


def _equal_pairs(counts: Counter[str]) -> float:
    same = sum(k * (k - 1) / 2 for k in counts.values())
    return same / (counts.total() * (counts.total() - 1) / 2)
