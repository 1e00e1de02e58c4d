"""The steps of one variant's engine: how long each took, and the work in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from foundation.arrays import Flags, Floats, Ints
from results.capacity.model.engine_model import StepJump, columns

SEGMENTS = 8
"""Blocks that are enough to draw from; fewer are cut into pieces."""
PIECES = 24
"""Into about how many pieces fewer blocks are cut."""


@dataclass(frozen=True)
class Steps:
    """n steps. `decodes`, `prefill_tokens`, `kv_tokens`, `pairs` are D, P, K and A of `StepTime`.

    `elapsed` (n,): s. `ended` (n,): s, CLOCK_MONOTONIC. `block` (n,): the number of the block that
    a step belongs to, from 0. `prompts` (n,): requests with a piece of their prompt. `context`: the
    most tokens of one request. `rate`: the most requests/s of a block. `left_out`: how many other
    steps are no part of it, by the reason. `free_tokens`: as in the `StepTime` that they are held
    against.
    """

    elapsed: Floats
    decodes: Floats
    prefill_tokens: Floats
    kv_tokens: Floats
    pairs: Floats
    ended: Floats
    block: Ints
    prompts: Floats
    context: float = 0.0
    rate: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)
    free_tokens: int | None = None

    def __len__(self) -> int:
        return len(self.elapsed)

    @property
    def work(self) -> Floats:
        """What the coefficients of a `StepTime` stand before, (n, 5)."""
        parts = (self.decodes, self.prefill_tokens, self.kv_tokens, self.pairs)
        return columns(np.column_stack([np.ones(len(self)), *parts]), self.free_tokens)

    @property
    def requests(self) -> Floats:
        """Requests in each step (n,): those that decode, and those of prompts."""
        return self.decodes + self.prompts

    def without(self, jump: StepJump) -> Steps:
        """The steps as long as they would be without a jump."""
        return replace(self, elapsed=self.elapsed / jump.factors(self.requests))

    def where(self, keep: Flags) -> Steps:
        """The steps in the mask `keep` (n,)."""
        return Steps(
            self.elapsed[keep],
            self.decodes[keep],
            self.prefill_tokens[keep],
            self.kv_tokens[keep],
            self.pairs[keep],
            self.ended[keep],
            self.block[keep],
            self.prompts[keep],
            self.context,
            self.rate,
            self.left_out,
            self.free_tokens,
        )

    @staticmethod
    def joined(parts: Sequence[Steps]) -> Steps:
        """The steps of several parts, whose blocks get numbers of their own; at least one part."""
        blocks = [int(part.block.max(initial=-1)) + 1 for part in parts]
        before = np.cumsum([0, *blocks[:-1]])
        return Steps(
            np.concatenate([part.elapsed for part in parts]),
            np.concatenate([part.decodes for part in parts]),
            np.concatenate([part.prefill_tokens for part in parts]),
            np.concatenate([part.kv_tokens for part in parts]),
            np.concatenate([part.pairs for part in parts]),
            np.concatenate([part.ended for part in parts]),
            np.concatenate([part.block + n for part, n in zip(parts, before, strict=True)]),
            np.concatenate([part.prompts for part in parts]),
            max(part.context for part in parts),
            max(part.rate for part in parts),
            {
                reason: sum(part.left_out.get(reason, 0) for part in parts)
                for reason in dict.fromkeys(reason for part in parts for reason in part.left_out)
            },
        )

    def segments(self) -> Ints:
        """The segment of each step (n,), from 0: pieces of time that chance treats as one.

        They are the blocks. Fewer than `SEGMENTS` blocks are cut into pieces of about equal steps.
        """
        blocks, block = np.unique(self.block, return_inverse=True)
        if len(blocks) >= SEGMENTS or not len(self):
            return block.astype(np.int64)
        pieces = -(-PIECES // len(blocks))
        segment = np.zeros(len(self), np.int64)
        for number in range(len(blocks)):
            place = np.flatnonzero(block == number)
            place = place[np.argsort(self.ended[place], kind="stable")]
            segment[place] = number * pieces + np.arange(len(place)) * pieces // len(place)
        return np.unique(segment, return_inverse=True)[1].astype(np.int64)
