"""What a block asks: a seeded permutation of the questions, the same for every variant in a block."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foundation.run.records import Prompt
from loadgen.config import Stage

_PURPOSE = 2


@dataclass(frozen=True)
class Question:
    """One prompt in one style. For text completions the contents of `messages` are joined by empty lines.

    `then` are the further turns of its session: each one's messages go behind all that was said before it. `output_tokens`: how
    long the answer shall be; `shared_tokens`: the first tokens of the prompt that a prefix cache should know; `delay_s`,
    `at_s`: as in `Prompt`. None where nobody says.
    """

    id: str
    messages: list[dict[str, str]]
    then: tuple[Question, ...] = ()
    output_tokens: int | None = None
    shared_tokens: int | None = None
    delay_s: float | None = None
    at_s: float | None = None

    def next_turn(self, answer: str, known_tokens: int | None) -> Question | None:
        """The next turn with all that was said before it, of which `known_tokens` went through the server; None at the end."""
        if not self.then:
            return None
        turn, *others = self.then
        messages = [*self.messages, {"role": "assistant", "content": answer}, *turn.messages]
        return replace(turn, messages=messages, then=tuple(others), shared_tokens=known_tokens)


def questions_of(prompts: Iterable[Prompt], style: str) -> list[Question]:
    """The sessions that prompts make. A turn stands behind the one that it follows."""
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
    """The questions of block `block` (from 1), in the order they are asked: the first `n` are the block's own.

    Over the blocks of a stage none is asked twice until all have been. Behind the block's own follow the others, for a closed
    loop's warm-up, which takes from the end: those that were asked the block before. `n` None: a permutation of all.
    `in_order`: as they stand, each block going on where the last one ended; one that replays a trace begins anew.
    """
    if not questions:
        raise ValueError("no questions to ask")
    if in_order:
        start = 0 if stage.trace or n is None else (block - 1) * n % len(questions)
        return [*questions[start:], *questions[:start]]

    def permutation(turn: int) -> list[Question]:
        rng = np.random.default_rng([seed, zlib.crc32(stage.label.encode()), turn, _PURPOSE])
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
    asked = {question.id for question in own}
    return own + [question for question in order[skip:] + order[:skip] if question.id not in asked]
