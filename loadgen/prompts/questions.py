"""Chooses the questions of a block: a seeded permutation, the same for every variant."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foundation.run.records import Prompt
from loadgen.config import Stage

# The number of this module's random stream, beside the seed.
_STREAM = 2


@dataclass(frozen=True)
class Question:
    """One prompt in one style. For text completions the contents of `messages` are joined by empty
    lines.

    `then`: the further turns of its session. The messages of each follow all messages and answers
    before it. `output_tokens`: the length of the answer. `shared_tokens`: the first tokens of the
    prompt that a prefix cache should know. `delay_s`, `at_s`: as in `Prompt`. None where nothing is
    specified.
    """

    id: str
    messages: list[dict[str, str]]
    then: tuple[Question, ...] = ()
    output_tokens: int | None = None
    shared_tokens: int | None = None
    delay_s: float | None = None
    at_s: float | None = None

    def next_turn(self, answer: str, known_tokens: int | None) -> Question | None:
        """The next turn with all messages and answers before it; None at the end.

        `known_tokens`: how many of its tokens went through the server already.
        """
        if not self.then:
            return None
        turn, *others = self.then
        messages = [*self.messages, {"role": "assistant", "content": answer}, *turn.messages]
        return replace(turn, messages=messages, then=tuple(others), shared_tokens=known_tokens)


def questions_of(prompts: Iterable[Prompt], style: str) -> list[Question]:
    """The sessions of some prompts. A turn comes after the turn that it names."""
    sessions: list[list[Question]] = []
    ending_in: dict[str, list[Question]] = {}
    for prompt in prompts:
        if prompt.after is None:
            sessions.append(session := [])
        else:
            session = ending_in.pop(prompt.after)
        ending_in[prompt.id] = session
        session.append(
            Question(
                prompt.id,
                prompt.messages[style],
                output_tokens=prompt.output_tokens,
                shared_tokens=prompt.shared_tokens,
                delay_s=prompt.delay_s,
                at_s=prompt.at_s,
            )
        )
    return [replace(first, then=tuple(others)) for first, *others in sessions]


def pick_questions(
    questions: Sequence[Question],
    stage: Stage,
    block: int,
    seed: int,
    n: int | None,
    in_order: bool = False,
) -> list[Question]:
    """The questions of block `block` (from 1), in the order they are asked.

    The first `n` are the block's own. Over the blocks of a stage none repeats until all have been
    asked. After the block's own come the others, for a closed loop's warm-up, which takes from the
    end: those of the block before. `n` None: a permutation of all. `in_order`: the order of the
    dataset; each block continues where the last one ended, or starts from the beginning for a
    replayed trace.
    """
    if not questions:
        raise ValueError("no questions to ask")
    if in_order:
        start = 0 if stage.trace or n is None else (block - 1) * n % len(questions)
        return [*questions[start:], *questions[:start]]

    def permutation(turn: int) -> list[Question]:
        rng = np.random.default_rng([seed, zlib.crc32(stage.label.encode()), turn, _STREAM])
        return [questions[i] for i in rng.permutation(len(questions))]

    if n is None:
        return permutation(block)
    turn, skip = divmod((block - 1) * n, len(questions))
    order = permutation(turn)
    own = order[skip:]
    while len(own) < n:
        turn += 1
        own += permutation(turn)
    own = own[:n]
    own_ids = {question.id for question in own}
    return own + [
        question for question in order[skip:] + order[:skip] if question.id not in own_ids
    ]
