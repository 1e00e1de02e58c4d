"""Doubts about a stage's answers: empty, short, cut, or scored by next to nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foundation.run.records import Prompt
from foundation.run.requests import Requests
from results.config import Scoring
from results.measures.doubt import Doubt, some
from results.measures.quality import NEEDS_NO_REFERENCE, why_no_reference

CUT_SHARE = 0.5
SHORT_SHARE = 0.1


def answer_doubts(blocks: Sequence[Requests], prompts: Mapping[str, Prompt]) -> list[Doubt]:
    """Of what came back, whatever it was asked for."""
    wanted_tokens = {
        name: tokens
        for name, prompt in prompts.items()
        if (tokens := prompt.output_tokens) is not None
    }
    doubts: list[Doubt] = []
    answered = sum(int(block.ok.sum()) for block in blocks)
    if empty := sum(int(block.empty.sum()) for block in blocks):
        doubts.append(("SUSPECT", f"{empty} of {some(answered, 'answer')} were empty"))
    answers = [(block.ok & (block.chunks.count > 0), block.chunks) for block in blocks]
    if odd := sum(int((there & (chunks.tokens_of == 0)).sum()) for there, chunks in answers):
        doubts.append(
            ("SUSPECT", f"{some(odd, 'answer')} without one token count a chunk: left out of ITL")
        )
    lagging = [
        (int((there & (chunks.lags == 0)).sum()), int(there.sum())) for there, chunks in answers
    ]
    if any(chunks.lags.any() for _, chunks in answers) and (
        odd := sum(count for count, _ in lagging)
    ):
        doubts.append(
            ("SUSPECT", f"{some(odd, 'answer')} without one client lag a chunk: left out of it")
        )
    lengths = [_lengths(block, wanted_tokens) for block in blocks]
    requested, received, cut = (
        np.concatenate([np.empty(0), *parts]) for parts in zip(*lengths, strict=True)
    )
    if short := int((received < requested - np.maximum(1, SHORT_SHARE * requested)).sum()):
        doubts.append(
            (
                "SUSPECT",
                f"{short} of {some(len(requested), 'answer')} were shorter than asked by more than "
                f"{SHORT_SHARE:.0%}",
            )
        )
    free = np.isnan(requested)
    if (cut[free].sum() > 0) and cut[free].mean() >= CUT_SHARE:
        words = (
            f"{int(cut[free].sum())} of {some(int(free.sum()), 'answer')} were cut at max_tokens: "
            "times, tokens and quality"
        )
        doubts.append(("SUSPECT", f"{words} are of answers that were not finished"))
    return doubts


def _lengths(
    block: Requests, lengths: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The requested and received tokens of every answer (NaN: unknown), and whether it was cut."""
    requested = np.array(
        [lengths.get(prompt, np.nan) for prompt in block.prompt_id], dtype=np.float64
    )
    return (
        requested[block.ok],
        block.output_tokens[block.ok],
        block.cut_short[block.ok].astype(np.float64),
    )


def scoring_doubts(
    blocks: Sequence[Requests], prompts: Mapping[str, Prompt], scoring: Scoring
) -> list[Doubt]:
    """`prompts`: those of the question set. `scoring`: as the experiment writes it."""
    prompt_ids = list(dict.fromkeys(prompt for block in blocks for prompt in block.prompt_id))
    doubts: list[Doubt] = []
    if prompts and (unknown := [prompt for prompt in prompt_ids if prompt not in prompts]):
        words = (
            f"{len(unknown)} of {some(len(prompt_ids), 'prompt')} that were asked are not in "
            "prompts.jsonl"
        )
        doubts.append(
            ("SUSPECT", f"{words} ({', '.join(unknown[:3])}): their answers are not scored")
        )
    references = {prompt: prompts[prompt].reference for prompt in prompt_ids if prompt in prompts}
    with_one = [reference for reference in references.values() if reference is not None]
    if scoring.scorer not in NEEDS_NO_REFERENCE and 0 < len(with_one) < len(references):
        words = f"{len(with_one)} of {some(len(references), 'prompt')} have a reference"
        doubts.append(("SUSPECT", f"{words}: quality is of their answers only"))
    if wrong := [why for reference in with_one if (why := why_no_reference(scoring, reference))]:
        words = f"{len(wrong)} of {some(len(with_one), 'reference')} can't be met by any answer"
        doubts.append(("SUSPECT", f"{words}: {wrong[0]}"))
    return doubts
