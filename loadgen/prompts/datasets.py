"""Where prompts come from beside the held-out data: made to length, recorded conversations, recorded lengths."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from foundation.errors import BadInput
from foundation.run.records import PLAIN, Prompt
from loadgen.config import Dataset, Synthetic, WorkloadConfig
from loadgen.prompts.conversations import read_sessions
from loadgen.prompts.exact_length import Draft, Wording
from loadgen.schedule.arrivals import planned_requests
from loadgen.schedule.traces import Arrival, Turn, arrivals_in

MOST = 20_000
_UNKNOWN = 1000
# What the drawn lengths and each kind of text are named by, beside the seed.
_LENGTHS, _BEGINNING, _OWN, _BLOCK = range(4)


def seed_of(workload: WorkloadConfig) -> list[int]:
    """What a dataset's words and lengths are drawn from: the seed, and the run's own salt where there is one."""
    salt = workload.cache_salt
    return [workload.seed, zlib.crc32(salt.encode()) if isinstance(salt, str) else 0]


def sessions_needed(workload: WorkloadConfig) -> int:
    """How many sessions a variant is asked over all blocks of a stage: with so many, none comes twice there; at most `MOST`."""
    needed = 0
    for stage in workload.stages:
        numbers = range(1, workload.blocks + 1)
        planned = [
            planned_requests(stage.in_block(block), workload.seed, block, workload.warmup)
            for block in numbers
        ]
        # A relative rate may put as many arrivals into the warm-up as the window has.
        warming = (stage.requests or 0) if stage.relative_rate else (stage.concurrency or 0)
        blocks = [_UNKNOWN if n is None else n + warming for n in planned]
        needed = max(needed, max(blocks) if stage.trace else sum(blocks))
    return min(needed, MOST)


def make_prompts(
    workload: WorkloadConfig,
    wording: Wording,
    needed: int,
    say: Callable[[str], None] = lambda line: None,
) -> list[Prompt]:
    """The prompts of a dataset, turns after their first ones, at least `needed` sessions where it has so many.

    `say` hears what a person should know of them. Raises BadInput for a file that is wrong, or lengths that can't be.
    """
    dataset = workload.dataset
    assert dataset is not None
    if dataset.synthetic is not None:
        return list(_synthetic(dataset.synthetic, wording, needed, workload.seed))
    if dataset.sharegpt is not None:
        return list(_recorded(dataset, needed, workload.seed, say))
    assert dataset.trace is not None
    return _traced(dataset, wording, needed, say)


def _synthetic(wanted: Synthetic, wording: Wording, count: int, seed: int) -> Iterator[Prompt]:
    if wanted.input_tokens.smallest < wording.shortest and wanted.input_tokens.kind in (
        "fixed",
        "uniform",
    ):
        raise BadInput(
            f"workload.dataset.synthetic.input_tokens: {wanted.input_tokens}: the chat template takes {wording.around} tokens of "
            f"each prompt; write at least {wording.shortest}, or api: completions"
        )
    rng = np.random.default_rng([seed, _LENGTHS])
    turns = wanted.turns.draw(rng, count)
    inputs = wanted.input_tokens.draw(rng, sum(turns), wording.shortest)
    outputs = wanted.output_tokens.draw(rng, sum(turns))
    firsts = np.cumsum([0, *turns[:-1]])
    shared = [_shared(wanted.cache_hit, inputs[first], wording) for first in firsts]
    beginnings = rng.integers(0, wanted.prefixes, count)
    drafts = [
        Draft(inputs[first], (_OWN, int(first)), (((_BEGINNING, int(beginning)), words),))
        for first, beginning, words in zip(firsts, beginnings, shared, strict=True)
    ]
    for session, (text, words) in enumerate(zip(wording.prompts(drafts), shared, strict=True)):
        first, before = int(firsts[session]), None
        for turn in range(turns[session]):
            place = first + turn
            prompt_id = _id(session, turn, turns[session])
            if turn:
                text = wording.text((_OWN, place), max(1, inputs[place] - wording.between)).lstrip()
            yield Prompt(
                prompt_id,
                "eval",
                {PLAIN: [{"role": "user", "content": text}]},
                after=before,
                input_tokens=None if turn else inputs[place],
                output_tokens=outputs[place],
                shared_tokens=None if turn else wording.before + words,
            )
            before = prompt_id


def _shared(share: float, tokens: int, wording: Wording) -> int:
    """Words that a prompt has in common with others, so that with what comes before them they are `share` of its tokens.

    The words that tell it from the others are left to it.
    """
    return (
        max(0, min(round(share * tokens) - wording.before, tokens - wording.shortest))
        if share
        else 0
    )


def _recorded(
    dataset: Dataset, needed: int, seed: int, say: Callable[[str], None]
) -> Iterator[Prompt]:
    assert dataset.sharegpt is not None
    sessions = read_sessions(dataset.sharegpt.file, dataset.sharegpt.turns, say)
    order = np.random.default_rng([seed, _OWN]).permutation(len(sessions))[:needed]
    for session, place in enumerate(order):
        before = None
        turns = sessions[int(place)]
        for turn, messages in enumerate(turns):
            prompt_id = _id(session, turn, len(turns))
            yield Prompt(prompt_id, "eval", {PLAIN: messages}, after=before)
            before = prompt_id


def _traced(
    dataset: Dataset, wording: Wording, needed: int, say: Callable[[str], None]
) -> list[Prompt]:
    assert dataset.trace is not None
    file = dataset.trace.file
    arrivals = arrivals_in(dataset.trace)[:needed]
    turns = [turn for arrival in arrivals for turn in arrival.turns]
    for turn in turns:
        if turn.text is None and (turn.input_tokens is None or turn.output_tokens is None):
            raise BadInput(
                f"{file}:{turn.line}: a prompt lacks input or output tokens; a dataset needs both, or text_input"
            )
    firsts = [arrival.first for arrival in arrivals]
    short = sum(
        turn.text is None and (turn.input_tokens or 0) < wording.shortest for turn in firsts
    )
    if short:
        say(
            f"{file}: {short} prompts are shorter than any can be here; they are {wording.shortest} tokens long"
        )
    lengths = [
        None if turn.text is not None else max(turn.input_tokens or 0, wording.shortest)
        for turn in firsts
    ]
    drafts = [
        _draft(turn, length)
        for turn, length in zip(firsts, lengths, strict=True)
        if length is not None
    ]
    written = iter(wording.prompts(drafts))
    prompts = []
    for number, (arrival, length, known) in enumerate(
        zip(arrivals, lengths, _known(firsts), strict=True)
    ):
        first = arrival.first
        prompts.append(
            Prompt(
                _id(number, 0, len(arrival.turns)),
                "eval",
                _said(first.text if first.text is not None else next(written)),
                input_tokens=length,
                output_tokens=first.output_tokens,
                shared_tokens=min(known, length) if length and first.hash_ids else None,
            )
        )
        prompts += _further_turns(number, arrival, wording)
    return prompts


def _further_turns(number: int, arrival: Arrival, wording: Wording) -> Iterator[Prompt]:
    """The turns after the first of the session `number`; each adds as many tokens as it was long."""
    for place, turn in enumerate(arrival.then, start=1):
        words = max(1, (turn.input_tokens or 0) - wording.between)
        yield Prompt(
            _id(number, place, len(arrival.turns)),
            "eval",
            _said(
                turn.text if turn.text is not None else wording.write(_draft(turn, words), words)
            ),
            after=_id(number, place - 1, len(arrival.turns)),
            output_tokens=turn.output_tokens,
            delay_s=turn.delay,
            at_s=None if turn.at is None else turn.at - arrival.at,
        )


def _said(text: str) -> dict[str, list[dict[str, str]]]:
    return {PLAIN: [{"role": "user", "content": text}]}


def _draft(turn: Turn, tokens: int) -> Draft:
    """Named by its line, so that the words are the same whichever part of the recording is asked."""
    return Draft(
        tokens, (_OWN, turn.line), tuple(((_BLOCK, each), turn.block) for each in turn.hash_ids)
    )


def _known(turns: Sequence[Turn]) -> list[int]:
    """How many of each prompt's first tokens stood in an earlier prompt: what a cache that forgets nothing would answer."""
    after: dict[
        tuple[int, int], int
    ] = {}  # a block behind a chain of others: the longer chain's number
    found = []
    for turn in turns:
        chain, blocks = 0, 0
        for each in turn.hash_ids:
            blocks += (chain, each) in after
            chain = after.setdefault((chain, each), len(after) + 1)
        found.append(turn.block * blocks)
    return found


def _id(session: int, turn: int, turns: int) -> str:
    return f"{session:05d}" if turns == 1 else f"{session:05d}.{turn + 1}"
