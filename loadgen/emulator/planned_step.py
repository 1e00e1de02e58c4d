"""A request in the scheduler, and what a step does to it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from loadgen.emulator.kv_cache import BlockKeys


class ScheduledRequest:
    """A request in the scheduler. `keys`: of its full blocks, None where nothing is shared.

    `cached_tokens`: of its prompt, known to the prefix cache when it was first admitted.
    `computed_tokens`: all that steps computed for it, again after a preemption too.
    """

    __slots__ = (
        "adapter",
        "cached_tokens",
        "computed_tokens",
        "generated",
        "in_cache",
        "keys",
        "named_blocks",
        "number",
        "order",
        "output_tokens",
        "preemptions",
        "prompt_tokens",
    )

    def __init__(
        self,
        number: int,
        prompt_tokens: int,
        output_tokens: int,
        keys: BlockKeys | None = None,
        adapter: Hashable | None = None,
    ) -> None:
        self.number, self.prompt_tokens, self.output_tokens = number, prompt_tokens, output_tokens
        self.keys, self.adapter = keys, adapter
        self.cached_tokens = self.computed_tokens = self.preemptions = 0
        # Output tokens, and tokens in the KV cache. Of a request that decodes the first is out of
        # date, and the second is what it would have been before the scheduler's first step.
        self.generated = self.in_cache = 0
        self.named_blocks: list[int] = []
        self.order = 0


class PromptPiece(NamedTuple):
    """Tokens of one request's prompt in a step: `tokens` after `before` in the KV cache."""

    request: ScheduledRequest
    before: int
    tokens: int

    @property
    def ends_prompt(self) -> bool:
        """Whether the step makes the request's next token."""
        request = self.request
        return self.before + self.tokens == request.prompt_tokens + request.generated


class PlannedStep(NamedTuple):
    """What a step computes.

    `decodes` requests compute one token each, with `kv_tokens` in the KV cache before. `preempted`:
    those that lost their blocks to this step, the first to lose them first.
    """

    decodes: int
    kv_tokens: int
    pieces: list[PromptPiece]
    preempted: list[ScheduledRequest]

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens that are computed, again after a preemption too."""
        return sum(piece.tokens for piece in self.pieces)

    @property
    def pairs(self) -> float:
        """The sum over the pieces, p tokens after c, of p x (c + p / 2)."""
        return sum(each.tokens * (each.before + each.tokens / 2) for each in self.pieces)


class StepOutcome(NamedTuple):
    """`begun`: a piece made their token. `finished`: they have their last token.

    Each request that decoded has one more token too. Of those that were dropped nothing is said.
    """

    begun: list[ScheduledRequest]
    finished: list[ScheduledRequest]
