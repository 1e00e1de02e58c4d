"""Whether prompts and answers were as long as they were made to be, and who counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.records import Journal, Prompt


def length_notes(journals: Sequence[Journal], prompts: Mapping[str, Prompt]) -> list[str]:
    """What a person should know of a stage's token counts, as sentences."""
    records = [record for journal in journals for record in journal.records if record.failure is None]
    notes = []
    if own := sum(record.tokens_from == "tokenizer" for record in records):
        notes.append(f"the tokens of {own} answers were counted with the model's own tokenizer: the server reports no usage")
    told = [(record, prompts[record.prompt_id]) for record in records if record.prompt_id in prompts]
    sides = (
        ("prompts", [(p.input_tokens, r.input_tokens) for r, p in told], "the server counts"),
        ("answers", [(p.output_tokens, r.output_tokens) for r, p in told], "they have"),
    )
    for what, pairs, count in sides:
        asked = [(wanted, found) for wanted, found in pairs if wanted is not None and found is not None]
        off = [found - wanted for wanted, found in asked if found != wanted]
        if off:
            notes.append(f"{len(off)} of {len(asked)} {what} are not as long as asked: {count} {_range(off)} tokens")
    return notes


def _range(off: Sequence[int]) -> str:
    low, high = min(off), max(off)
    return f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"
