"""Whether a variant answers one prompt alike each time."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from results.requests import Requests
from results.text import normalise

_PASSED_OVER = bytes(sorted(set(range(128)) - set(map(ord, string.ascii_letters + string.digits))))


def prompt_consistency(blocks: Sequence[Requests]) -> dict[str, float]:
    """For each prompt answered more than once: the share of pairs of its answers that are the same, normalised.

    Only answers to one prompt that look alike can be the same, so only those are normalised: most long ones are not.
    """
    number: dict[str, int] = {}
    asked = [
        (number.setdefault(prompt, len(number)), text)
        for requests in blocks
        for prompt, text, ok in zip(requests.prompt_id, requests.text, requests.ok.tolist(), strict=True)
        if ok
    ]
    prompts = np.array([prompt for prompt, _ in asked], dtype=np.int64)
    looks = np.array([looks_of(text) for _, text in asked], dtype=np.int64)
    answers = np.bincount(prompts, minlength=len(number))
    same = np.zeros(len(number))
    order = np.lexsort((looks, prompts))
    new = np.ones(len(order) + 1, np.bool_)
    new[1:-1] = (np.diff(prompts[order]) != 0) | (np.diff(looks[order]) != 0)
    starts = np.flatnonzero(new)
    for group in np.flatnonzero(np.diff(starts) > 1):
        alike = order[starts[group] : starts[group + 1]].tolist()
        counts = Counter(normalise(asked[i][1]) for i in alike)
        same[prompts[alike[0]]] += sum(k * (k - 1) / 2 for k in counts.values())
    pairs = answers * (answers - 1) / 2
    return {prompt: float(same[i] / pairs[i]) for prompt, i in number.items() if pairs[i]}


def looks_of(text: str) -> int:
    """A number that is the same for texts that are the same when normalised: of their ASCII letters and digits in order."""
    plain = text if text.isascii() else normalise(text)
    return hash(plain.lower().encode("ascii", "ignore").translate(None, _PASSED_OVER))
