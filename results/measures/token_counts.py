"""Whether prompts and answers were as long as they were made to be, and who counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foundation.arrays import Floats
from foundation.run.journal import Journal
from foundation.run.records import Prompt
from foundation.run.requests import Requests


def length_notes(journals: Sequence[Journal], prompts: Mapping[str, Prompt]) -> list[str]:
    """What a person should know of a stage's token counts, as sentences."""
    notes = []
    own = sum(
        int(j.requests.ok[i])
        for j in journals
        for i, who in enumerate(j.requests.tokens_from)
        if who == "tokenizer"
    )
    if own:
        notes.append(
            f"the tokens of {own} answers were counted with the model's own tokenizer: the server "
            "reports no usage"
        )
    for what, side, count in (
        ("prompts", "input_tokens", "the server counts"),
        ("answers", "output_tokens", "they have"),
    ):
        lengths = {
            name: tokens
            for name, prompt in prompts.items()
            if (tokens := getattr(prompt, side)) is not None
        }
        parts = [
            _too_many(journal.requests, getattr(journal.requests, side), lengths)
            for journal in journals
        ]
        more = np.concatenate([np.empty(0), *parts])
        if off := int(np.count_nonzero(more)):
            notes.append(
                f"{off} of {len(more)} {what} are not as long as asked: {count} "
                f"{_range(more[more != 0])} tokens"
            )
    return notes


def _too_many(requests: Requests, counted: Floats, lengths: Mapping[str, int]) -> Floats:
    """Tokens counted less tokens requested, of each answer where both are known."""
    requested = np.array(
        [lengths.get(prompt, np.nan) for prompt in requests.prompt_id], dtype=np.float64
    )
    more = (counted - requested)[requests.ok]
    return np.asarray(more[~np.isnan(more)])


def _range(off: Floats) -> str:
    low, high = int(off.min()), int(off.max())
    return f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"
