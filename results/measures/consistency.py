"""Whether a variant answers one prompt alike each time."""

from __future__ import annotations

import string
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np

from foundation.run.requests import Requests
from results.answer_text.normal_form import normalise

_PASSED_OVER = bytes(sorted(set(range(128)) - set(map(ord, string.ascii_letters + string.digits))))


def prompt_consistency(blocks: Sequence[Requests]) -> dict[str, float]:
    """By prompt with several answers: the share of pairs that are equal when normalised."""
    number: dict[str, int] = {}
    both = array("q")
    for prompt, text in _answers(blocks):
        both.extend((number.setdefault(prompt, len(number)), looks_of(text)))
    prompts, looks = np.frombuffer(both, np.int64).reshape(-1, 2).T
    order = np.lexsort((looks, prompts))
    like_the_next = (np.diff(prompts[order]) == 0) & (np.diff(looks[order]) == 0)
    alike = np.zeros(len(order), np.bool_)
    alike[order[:-1][like_the_next]] = alike[order[1:][like_the_next]] = True
    counts = Counter(
        (prompt, normalise(text))
        for (prompt, text), is_alike in zip(_answers(blocks), alike, strict=True)
        if is_alike
    )
    same: dict[str, int] = {}
    for (prompt, _), k in counts.items():
        same[prompt] = same.get(prompt, 0) + k * (k - 1)
    pairs = {
        prompt: n * (n - 1) for prompt, n in zip(number, np.bincount(prompts).tolist(), strict=True)
    }
    return {prompt: same.get(prompt, 0) / n for prompt, n in pairs.items() if n}


def _answers(blocks: Sequence[Requests]) -> Iterator[tuple[str, str]]:
    """Prompt and text of every answer."""
    for requests in blocks:
        yield from compress(
            zip(requests.prompt_id, requests.text, strict=True), requests.ok.tolist()
        )


def looks_of(text: str) -> int:
    """A hash of the ASCII letters and digits in order, equal for texts equal when normalised."""
    plain = text if text.isascii() else normalise(text)
    return hash(plain.lower().encode("ascii", "ignore").translate(None, _PASSED_OVER))
