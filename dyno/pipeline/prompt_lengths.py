"""Prompts made to length, put right by the server's own count: it may word a chat otherwise, or have another tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from dyno.pipeline.prepare import dataset_prompts
from dyno.pipeline.prepared import Prepared
from foundation.progress import Progress
from foundation.run.journal import Journal, read_journal
from foundation.run.records import PLAIN
from foundation.run.requests import requests_of
from loadgen.prompts.exact_length import Correction

ROUNDS = 3


def correction(prepared: Prepared, name: str, journal: Path) -> Correction | None:
    """How the server of a variant counts, from what it was asked first; None where it counts what was intended."""
    wanted = {
        prompt.id: prompt.input_tokens
        for prompt in prepared.prompts
        if prompt.input_tokens is not None
    }
    read = read_journal(journal)
    requests = read.requests if isinstance(read, Journal) else requests_of([])
    rows = zip(
        requests.prompt_id, requests.tokens_from, requests.input_tokens.tolist(), strict=True
    )
    pairs = [
        (tokens, counted)
        for prompt, counted_by, counted in rows
        if counted_by == "server" and counted > 0 and (tokens := wanted.get(prompt))
    ]
    if all(asked == counted for asked, counted in pairs):
        return None
    before = prepared.corrections.get(name, Correction())
    written = np.array([before.own_count(asked) for asked, _ in pairs], dtype=np.float64)
    counted = np.array([counted for _, counted in pairs], dtype=np.float64)
    scale = before.scale
    if len(set((counted - scale * written).round(6))) > 1 or (
        scale == 1 and prepared.tokenizer is None
    ):
        spread = np.ptp(written)
        scale = (
            float(np.polyfit(written, counted, 1)[0])
            if spread
            else float(counted.mean() / written.mean())
        )
    return Correction(float(np.mean(counted - scale * written)), scale)


def reworded(prepared: Prepared, found: Mapping[str, Correction], progress: Progress) -> Prepared:
    """The same with prompts of their own for the variants whose servers count otherwise."""
    prompts = prepared.prompts
    for name, each in found.items():
        told = (
            f"{each.scale:.3g} x what we count {each.extra:+.0f}"
            if each.scale != 1
            else f"{each.extra:+.0f} tokens a prompt"
        )
        progress.log(f"{name}: its server counts {told}; prompts are cut to length anew")
        made = {
            prompt.id: prompt
            for prompt in dataset_prompts(prepared.experiment, prepared.tokenizer, progress, each)
        }
        prompts = [
            msgspec.structs.replace(
                prompt,
                messages=prompt.messages | {name: made.get(prompt.id, prompt).messages[PLAIN]},
            )
            for prompt in prompts
        ]
    return replace(prepared, prompts=prompts, corrections={**prepared.corrections, **found})
