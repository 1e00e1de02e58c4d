"""The requests of measured blocks as a demand: when they were due, and how long they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from foundation.arrays import Floats, Ints
from foundation.errors import BadInput
from foundation.run.journal import Journal
from foundation.run.records import Prompt
from foundation.run.requests import Requests, joined
from results.capacity.demand.demand import NOBODY, Demand
from results.measures.window import window_of

_BEGINNING = 64
"""So many characters tell one shared beginning of prompts from another."""


def demand_of(journals: Sequence[Journal], prompts: Mapping[str, Prompt], folder: Path) -> Demand:
    """The requests in the windows of these blocks, block after block, from 0.

    `folder`: where they lie. Raises BadInput without requests, and without counts of tokens.
    """
    arrivals, parts, begin = [], [], 0.0
    for journal in journals:
        start, end = window_of(journal)
        due = journal.requests.scheduled_ns
        part = journal.requests.where((due >= start) & (due < end))
        arrivals.append(begin + (part.scheduled_ns - start) / 1e9)
        parts.append(part)
        begin += (end - start) / 1e9
    if not sum(map(len, parts)):
        raise BadInput(f"{folder}: no requests in the window of any block: measure this stage")
    requests, arrival = joined(parts), np.concatenate(arrivals)
    order = np.argsort(arrival, kind="stable")
    requests, arrival = requests.take(order), arrival[order]
    prefix = _prefixes(requests, prompts)
    known = np.where(prefix == NOBODY, 0, np.nan_to_num(requests.shared_tokens))
    input_tokens = _filled(requests.input_tokens, folder, "input")
    return Demand(
        arrival=arrival - arrival[0],
        input_tokens=input_tokens,
        output_tokens=_filled(requests.output_tokens, folder, "output"),
        prefix=prefix,
        prefix_tokens=np.minimum(known.astype(np.int64), input_tokens),
        adapter=np.full(len(arrival), NOBODY),
    )


def _filled(tokens: Floats, folder: Path, kind: str) -> Ints:
    """Counts of at least 1; the median where there is none."""
    if np.isnan(tokens).all():
        raise BadInput(f"{folder}: no answer has a count of {kind} tokens: nothing says how long")
    filled = np.where(np.isnan(tokens), np.nanmedian(tokens), tokens)
    return np.asarray(np.maximum(filled, 1), dtype=np.int64)


def _prefixes(requests: Requests, prompts: Mapping[str, Prompt]) -> Ints:
    """The number of each request's shared prefix: its session, or the beginning of its text."""
    shares = np.nan_to_num(requests.shared_tokens) > 0
    numbers: dict[str, int] = {}
    prefix = np.full(len(requests), NOBODY)
    begun = {prompt.after for prompt in prompts.values() if prompt.after is not None}
    for place, id in enumerate(requests.prompt_id):
        if shares[place] or id in begun:
            key = _beginning(id, prompts, id in begun)
            prefix[place] = numbers.setdefault(key, len(numbers))
    return prefix


def _beginning(id: str, prompts: Mapping[str, Prompt], begins: bool) -> str:
    """What the prompts of one prefix have in common. `begins`: whether others go on with it."""
    root = prompts.get(id)
    if root is None:
        return ""
    for _ in range(len(prompts)):
        if root.after is None or root.after not in prompts:
            break
        root = prompts[root.after]
    if begins or root.id != id:
        return f"session {root.id}"
    messages = next(iter(root.messages.values()), [])
    return messages[0].get("content", "")[:_BEGINNING] if messages else ""
