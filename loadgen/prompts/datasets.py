"""Makes the prompts of a dataset: synthetic prompts, recorded conversations, or recorded
lengths.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from foundation.errors import BadInput
from foundation.run.records import PLAIN, Prompt
from loadgen.config import WorkloadConfig
from loadgen.dataset_config import Dataset, Synthetic
from loadgen.prompts.conversations import read_sessions
from loadgen.prompts.exact_length import Draft, Wording
from loadgen.schedule.arrivals import planned_requests
from loadgen.schedule.traces import Arrival, Turn, arrivals_in

MOST_SESSIONS = 20_000
_ASSUMED_REQUESTS = 1000
# Names of the random streams, beside the seed: drawn lengths, and each kind of text.
_LENGTHS, _BEGINNING, _OWN, _BLOCK = range(4)


def seed_of(workload: WorkloadConfig) -> list[int]:
    """The seed of a dataset's words and lengths: the workload's, and the run's own salt if it has
    one.
    """
    salt = workload.cache_salt
    return [workload.seed, zlib.crc32(salt.encode()) if isinstance(salt, str) else 0]


def sessions_needed(workload: WorkloadConfig) -> int:
    """How many sessions a variant needs for all blocks of a stage without repeating any.

    It is at most `MOST_SESSIONS`.
    """
    needed = 0
    for stage in workload.stages:
        numbers = range(1, workload.blocks + 1)
        planned = [
            planned_requests(stage.in_block(block), workload.seed, block, workload.warmup)
            for block in numbers
        ]
        # At a relative rate the warm-up may have as many arrivals as the window.
        in_warmup = (stage.requests or 0) if stage.relative_rate else (stage.concurrency or 0)
        blocks = [_ASSUMED_REQUESTS if n is None else n + in_warmup for n in planned]
        needed = max(needed, max(blocks) if stage.trace else sum(blocks))
    return min(needed, MOST_SESSIONS)


def make_prompts(
    workload: WorkloadConfig,
    wording: Wording,
    needed: int,
    log: Callable[[str], None] = lambda line: None,
) -> list[Prompt]:
    """The prompts of a dataset, each turn after the one before it: `needed` sessions if it has so
    many.

    `log` gets what a person should know about them. Raises BadInput for a faulty file or impossible
    lengths.
    """
    dataset = workload.dataset
    assert dataset is not None
    if dataset.synthetic is not None:
        return list(_synthetic(dataset.synthetic, wording, needed, workload.seed))
    if dataset.sharegpt is not None:
        return list(_recorded(dataset, needed, workload.seed, log))
    assert dataset.trace is not None
    return _traced(dataset, wording, needed, log)


def _synthetic(synthetic: Synthetic, wording: Wording, count: int, seed: int) -> Iterator[Prompt]:
    if synthetic.input_tokens.smallest < wording.shortest and synthetic.input_tokens.kind in (
        "fixed",
        "uniform",
    ):
        raise BadInput(
            f"workload.dataset.synthetic.input_tokens: {synthetic.input_tokens}: the chat template "
            f"takes {wording.around} tokens of each prompt; write at least {wording.shortest}, "
            "or api: completions"
        )
    rng = np.random.default_rng([seed, _LENGTHS])
    turns = synthetic.turns.draw(rng, count)
    inputs = synthetic.input_tokens.draw(rng, sum(turns), wording.shortest)
    outputs = synthetic.output_tokens.draw(rng, sum(turns))
    firsts = np.cumsum([0, *turns[:-1]])
    shared = [_shared(synthetic.cache_hit, inputs[first], wording) for first in firsts]
    beginnings = rng.integers(0, synthetic.prefixes, count)
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
                _message(text),
                after=before,
                input_tokens=None if turn else inputs[place],
                output_tokens=outputs[place],
                shared_tokens=None if turn else wording.before + words,
            )
            before = prompt_id


def _shared(share: float, tokens: int, wording: Wording) -> int:
    """Words that a prompt has in common with others, so that `share` of its tokens is shared.

    The tokens before the words count too. The words that distinguish the prompt stay its own.
    """
    return (
        max(0, min(round(share * tokens) - wording.before, tokens - wording.shortest))
        if share
        else 0
    )


def _recorded(
    dataset: Dataset, needed: int, seed: int, log: Callable[[str], None]
) -> Iterator[Prompt]:
    assert dataset.sharegpt is not None
    sessions = read_sessions(dataset.sharegpt.file, dataset.sharegpt.turns, log)
    order = np.random.default_rng([seed, _OWN]).permutation(len(sessions))[:needed]
    for session, place in enumerate(order):
        before = None
        turns = sessions[int(place)]
        for turn, messages in enumerate(turns):
            prompt_id = _id(session, turn, len(turns))
            yield Prompt(prompt_id, "eval", {PLAIN: messages}, after=before)
            before = prompt_id


def _traced(
    dataset: Dataset, wording: Wording, needed: int, log: Callable[[str], None]
) -> list[Prompt]:
    assert dataset.trace is not None
    file = dataset.trace.file
    arrivals = arrivals_in(dataset.trace)[:needed]
    _check_lengths(file, arrivals)
    firsts = [arrival.first for arrival in arrivals]
    lengths = [
        None if turn.text is not None else max(turn.input_tokens or 0, wording.shortest)
        for turn in firsts
    ]
    short = sum(
        length is not None and (turn.input_tokens or 0) < length
        for turn, length in zip(firsts, lengths, strict=True)
    )
    if short:
        log(
            f"{file}: {short} prompts are shorter than any can be here; "
            f"they are {wording.shortest} tokens long"
        )
    drafts = [
        _draft(turn, length)
        for turn, length in zip(firsts, lengths, strict=True)
        if length is not None
    ]
    written = iter(wording.prompts(drafts))
    prompts = []
    for number, (arrival, length, known) in enumerate(
        zip(arrivals, lengths, _known_tokens(firsts), strict=True)
    ):
        first = arrival.first
        prompts.append(
            Prompt(
                _id(number, 0, len(arrival.turns)),
                "eval",
                _message(first.text if first.text is not None else next(written)),
                input_tokens=length,
                output_tokens=first.output_tokens,
                shared_tokens=min(known, length) if length and first.hash_ids else None,
            )
        )
        prompts += _further_turns(number, arrival, wording)
    return prompts


def _check_lengths(file: Path, arrivals: Sequence[Arrival]) -> None:
    for turn in (turn for arrival in arrivals for turn in arrival.turns):
        if turn.text is None and (turn.input_tokens is None or turn.output_tokens is None):
            raise BadInput(
                f"{file}:{turn.line}: a prompt lacks input or output tokens; "
                "a dataset needs both, or text_input"
            )


def _further_turns(number: int, arrival: Arrival, wording: Wording) -> Iterator[Prompt]:
    """The turns after the first of the session `number`. Each adds its recorded number of
    tokens.
    """
    for place, turn in enumerate(arrival.then, start=1):
        words = max(1, (turn.input_tokens or 0) - wording.between)
        yield Prompt(
            _id(number, place, len(arrival.turns)),
            "eval",
            _message(
                turn.text if turn.text is not None else wording.write(_draft(turn, words), words)
            ),
            after=_id(number, place - 1, len(arrival.turns)),
            output_tokens=turn.output_tokens,
            delay_s=turn.delay,
            at_s=None if turn.at is None else turn.at - arrival.at,
        )


def _message(text: str) -> dict[str, list[dict[str, str]]]:
    return {PLAIN: [{"role": "user", "content": text}]}


def _draft(turn: Turn, tokens: int) -> Draft:
    """A draft named by its line, so its words are the same whichever part of the recording is
    used.
    """
    return Draft(
        tokens, (_OWN, turn.line), tuple(((_BLOCK, each), turn.block) for each in turn.hash_ids)
    )


def _known_tokens(turns: Sequence[Turn]) -> list[int]:
    """How many of each prompt's first tokens were in an earlier prompt.

    A cache that forgets nothing would answer so many.
    """
    # The number of the chain that a block makes when it follows the chain of a number.
    chains: dict[tuple[int, int], int] = {}
    known = []
    for turn in turns:
        chain, blocks = 0, 0
        for each in turn.hash_ids:
            blocks += (chain, each) in chains
            chain = chains.setdefault((chain, each), len(chains) + 1)
        known.append(turn.block * blocks)
    return known


def _id(session: int, turn: int, turns: int) -> str:
    return f"{session:05d}" if turns == 1 else f"{session:05d}.{turn + 1}"
