"""What a block asks: a seeded permutation of the questions, the same for every variant in a block."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadgen.config import Stage

_PURPOSE = 2


@dataclass(frozen=True)
class Question:
    """One prompt in one style. For text completions the contents of `messages` are joined by empty lines."""

    id: str
    messages: list[dict[str, str]]


def pick_questions(questions: Sequence[Question], stage: Stage, block: int, seed: int, n: int | None) -> list[Question]:
    """The questions of block `block` (from 1), in the order they are asked: the first `n` are the block's own.

    Over the blocks of a stage none is asked twice until all have been. Behind the block's own follow the others, for a closed
    loop's warm-up, which takes from the end: those that were asked the block before. `n` None: a permutation of all.
    """
    if not questions:
        raise ValueError("no questions to ask")

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
