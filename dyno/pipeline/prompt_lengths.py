"""Corrects synthetic prompt lengths using the server's token counts.

A server may render a chat otherwise, or have another tokenizer.
"""

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


def measured_correction(prepared: Prepared, name: str, journal: Path) -> Correction | None:
    """How a server's token counts differ from the intended lengths; None if they do not.

    `name`: the variant. `journal`: that of its warm-up.
    """
    intended = {
        prompt.id: prompt.input_tokens
        for prompt in prepared.prompts
        if prompt.input_tokens is not None
    }
    contents = read_journal(journal)
    requests = contents.requests if isinstance(contents, Journal) else requests_of([])
    rows = zip(
        requests.prompt_id, requests.tokens_from, requests.input_tokens.tolist(), strict=True
    )
    pairs = [
        (tokens, count)
        for prompt, counted_by, count in rows
        if counted_by == "server" and count > 0 and (tokens := intended.get(prompt))
    ]
    if all(tokens == count for tokens, count in pairs):
        return None
    before = prepared.corrections.get(name, Correction())
    ours = np.array([before.own_count(tokens) for tokens, _ in pairs], dtype=np.float64)
    counts = np.array([count for _, count in pairs], dtype=np.float64)
    scale = before.scale
    is_constant = len(set((counts - scale * ours).round(6))) == 1
    if not is_constant or (scale == 1 and prepared.tokenizer is None):
        if np.ptp(ours):
            scale = float(np.polyfit(ours, counts, 1)[0])
        else:
            scale = float(counts.mean() / ours.mean())
    return Correction(float(np.mean(counts - scale * ours)), scale)


def with_corrected_lengths(
    prepared: Prepared, corrections: Mapping[str, Correction], progress: Progress
) -> Prepared:
    """The experiment with separate prompts for the variants in `corrections`."""
    prompts = prepared.prompts
    for name, correction in corrections.items():
        count = f"{correction.extra:+.0f} tokens a prompt"
        if correction.scale != 1:
            count = f"{correction.scale:.3g} x what we count {correction.extra:+.0f}"
        progress.log(f"{name}: its server counts {count}; prompts are cut to length again")
        corrected = {
            prompt.id: prompt.messages[PLAIN]
            for prompt in dataset_prompts(
                prepared.experiment, prepared.tokenizer, progress, correction
            )
        }
        prompts = [
            msgspec.structs.replace(
                prompt,
                messages=prompt.messages
                | {name: corrected.get(prompt.id) or prompt.messages[PLAIN]},
            )
            for prompt in prompts
        ]
    return replace(prepared, prompts=prompts, corrections={**prepared.corrections, **corrections})
