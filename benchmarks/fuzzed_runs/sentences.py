"""What sentences claim, as numbers: read by regular expressions of the checker's own."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SIZES = {
    "s": 1e3,
    "ms": 1.0,
    "%": 0.01,
    "points": 0.01,
    "requests/s": 1.0,
    "tokens/s": 1.0,
    "": 1.0,
}
NUMBER = r"[+−]?\$?[\d,]+(?:\.\d+)?(?: (?:ms|s|%|points|requests/s|tokens/s))?"
_SENTENCE = re.compile(
    rf"^(?P<label>.+?) is (?P<value>{NUMBER})"
    rf"(?: and (?P<verb>keeps|breaks) its limit \((?P<limit>.+)\); "
    rf"(?P<edge>at most|at least) (?P<bound>{NUMBER}) with 95 % confidence"
    rf"| \(limit: (?P<open>.+)\), not settled: the data allow (?P<span>[^;]+)(?:; (?P<more>.+))?)$"
)


@dataclass
class Claim:
    """What the sentence of one objective says."""

    label: str
    value: float
    verb: str
    limit: float | None
    edge: str
    bounds: list[float]
    more: str


def number(text: str) -> float:
    """The number that a text says: ms, a share or dollars."""
    digits, _, unit = (
        text.replace("−", "-").replace("+", "").replace("$", "").replace(",", "").partition(" ")
    )
    return float(digits) * _SIZES[unit]


def numbers(text: str) -> list[float]:
    """All numbers of a text."""
    return [number(parts) for parts in re.findall(NUMBER, text)]


def limit_of(text: str) -> float | None:
    """The last number of a limit's words: of "1.1x of the baseline's, 305 ms" the time."""
    if "not under the baseline" in text:
        return 0.0
    if drop := re.search(r"no more than ([\d.]+) percentage point", text):
        return -float(drop[1]) / 100
    parts = re.findall(NUMBER, text.removesuffix(" a month"))
    return number(parts[-1]) if parts else None


def parse_claim(sentence: str) -> Claim | None:
    """The claim of an objective's sentence; None if it says that the objective can't be judged.

    Raises ValueError for a sentence of no known form.
    """
    if " can't be judged: " in sentence:
        return None
    match = _SENTENCE.match(sentence)
    if match is None:
        raise ValueError(f"not understood: {sentence}")
    if match["verb"]:
        return Claim(
            match["label"],
            number(match["value"]),
            match["verb"],
            limit_of(match["limit"]),
            match["edge"],
            [number(match["bound"])],
            "",
        )
    span = match["span"]
    edge = span[: len("at most")] if span.startswith("at ") else ""
    return Claim(
        match["label"],
        number(match["value"]),
        "open",
        limit_of(match["open"]),
        edge,
        numbers(span),
        match["more"] or "",
    )
