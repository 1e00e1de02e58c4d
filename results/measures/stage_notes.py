"""What a person should know of a stage's numbers and that changes none of them, as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from foundation.format import shortened
from foundation.run.records import Note
from foundation.run.requests import Requests
from results.measures.doubt import some
from results.measures.machines import machine_note
from results.measures.steady_state import StageData

# What the notes of records say of the answers that bear them.
_NOTES: dict[Note, str] = {
    "no_done": "ended without [DONE]: taken as whole, since they have a finish reason",
    "run_on": "came without empty lines between their events",
    "bad_text": "with half a character (U+FFFD in the text)",
    "compressed": "compressed by the server, so that chunks may share an arrival",
    "usage_zero": "whose usage says zero tokens beside a text, or for a prompt: not believed",
    "masked": "that repeated a key of ours: kept, and scored, with a mark in its place",
    "usage_odd": "whose token counts are none or contradict one another: not believed",
}


def doubts(stage: StageData) -> list[str]:
    """What makes the stage's numbers doubtful, as sentences."""
    notes = [*machine_note(stage), *(note for block in stage.blocks for note in block.notes)]
    requests = [block.requests for block in stage.blocks]
    if stage.n == 0:
        return [
            *notes,
            "no request was scheduled inside the steady window; lengthen the stage or shorten "
            "its warm-up",
        ]
    if stage.succeeded == 0:
        notes.append(
            f"all {stage.n} requests failed ({_classes(requests)}): nothing but the failures was "
            "measured"
        )
    elif stage.succeeded < stage.n:
        notes.append(
            f"{stage.n - stage.succeeded} of {stage.n} requests failed ({_classes(requests)})"
        )
    notes += _first_errors(stage)
    if silent := sum(int((r.ok & np.isnan(r.last)).sum()) for r in requests):
        notes.append(f"{silent} answers were empty: they have no first token and so no latency")
    for reason, words in (
        ("length", "cut at the token limit"),
        ("content_filter", "ended by a content filter"),
    ):
        if ended := sum(
            int(r.ok[i]) for r in requests for i, why in enumerate(r.finish_reason) if why == reason
        ):
            notes.append(f"{some(ended, 'answer')} {words}")
    noted = Counter(chain.from_iterable(notes for r in requests for notes in r.notes if notes))
    notes += [
        f"{some(noted[note], 'answer')} {words}" for note, words in _NOTES.items() if noted[note]
    ]
    if uncounted := sum(int((r.ok & np.isnan(r.output_tokens)).sum()) for r in requests):
        notes.append(
            f"{some(uncounted, 'answer')} without a token count: left out of every number made of "
            "tokens"
        )
    if stage.held.value is False:
        notes.append(
            f"the offered load was not held: {stage.held.reason}, so latencies depend on how long "
            "the stage lasted"
        )
    return [*notes, *_left_out(stage)]


def examples(stage: StageData) -> dict[str, str]:
    """The first message of each class of failure: the server's, or our reader's."""
    first_words: dict[str, str] = {}
    for block in stage.blocks:
        for name, words in zip(block.requests.failure, block.requests.error, strict=True):
            if name is not None and words:
                first_words.setdefault(name, words)
    return first_words


def _first_errors(stage: StageData) -> list[str]:
    """One example of each class of failure, the most frequent class first."""
    counts, first_words = failures([block.requests for block in stage.blocks]), examples(stage)
    classes = sorted(
        (name for name in counts if name in first_words), key=lambda name: -counts[name]
    )
    return [
        f"{name}, the first of {counts[name]}: {shortened(first_words[name])}" for name in classes
    ]


def _left_out(stage: StageData) -> list[str]:
    """The requests that warm-up, ramp-down and the cut of the beginning leave out of numbers."""
    outside = [block.left_out for block in stage.blocks]
    warm_up, ramp_down, failed = (
        sum(getattr(o, name) for o in outside) for name in ("warm_up", "ramp_down", "failed")
    )
    parts = ((warm_up, "of the warm-up"), (ramp_down, "that came after the windows (ramp-down)"))
    notes = []
    if there := [f"{some(count, 'request')} {which}" for count, which in parts if count]:
        failures = f"; {failed} of them failed" if failed else ""
        notes.append(f"left out of every number: {' and '.join(there)}{failures}")
    if late := sum(
        int((b.requests.ok & (b.requests.done >= b.window_ms[1])).sum()) for b in stage.blocks
    ):
        notes.append(
            f"{some(late, 'answer')} ended after the windows: counted in everything but throughput"
        )
    if stage.settling.cut_ns:
        notes.append(
            f"the first {stage.settling.cut_ns / 1e9:.0f} s of each window were not steady yet "
            f"(MSER-5): their {stage.n - stage.timed} requests are left out of times and rates, "
            "and count in everything else"
        )
    return notes


def _classes(requests: Sequence[Requests]) -> str:
    counts = failures(requests)
    return ", ".join(
        f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1])
    )


def failures(requests: Sequence[Requests]) -> dict[str, int]:
    """How many requests failed, by class."""
    counts: dict[str, int] = {}
    for failure in (f for r in requests for f in r.failure if f is not None):
        counts[failure] = counts.get(failure, 0) + 1
    return counts
