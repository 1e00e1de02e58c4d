"""Continuous batching without a clock: which tokens of which requests an engine step computes.

The order is that of vLLM V1: requests that decode, then the prompt in progress, then waiting
requests, first come, first served. A step without space in the KV cache preempts the request that
was admitted last; it waits at the front, and computes all its tokens again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable

from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.kv_cache import KvCache
from loadgen.emulator.planned_step import PlannedStep, PromptPiece, ScheduledRequest, StepOutcome


class ContinuousBatching:
    """Plans a step (`plan`), and is told when it is over (`end_step`).

    Requests that decode cost nothing in a step in which no block fills and nothing ends: what a
    step does to each of them follows from the number of steps since they began to decode.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self.cache = KvCache(limits.kv_blocks)
        self.waiting: deque[ScheduledRequest] = deque()
        self.decoding: dict[ScheduledRequest, None] = {}
        self.steps = 0
        self.prefix_queries = self.prefix_hits = self.preemptions = 0
        self._partial: ScheduledRequest | None = None
        self._pieces: list[PromptPiece] = []
        self._dropped: list[ScheduledRequest] = []
        self._in_step = False
        self._kv_tokens = 0
        # By steps modulo the block size: those whose next token needs a new block.
        self._needing: list[dict[ScheduledRequest, None]] = [{} for _ in range(limits.block_size)]
        self._ending: dict[int, dict[ScheduledRequest, None]] = {}
        self._adapters: Counter[Hashable] = Counter()
        self._admitted = 0

    @property
    def running(self) -> int:
        """Requests that hold blocks: those that decode, and those of prompts in the step."""
        if self._pieces:
            return len(self.decoding) + len(self._pieces)
        return len(self.decoding) + (self._partial is not None)

    def add(self, request: ScheduledRequest) -> None:
        """Puts a request at the end of the queue. Raises ValueError if it can never be served."""
        self.limits.check(request.prompt_tokens, request.output_tokens)
        self.waiting.append(request)

    def drop(self, request: ScheduledRequest) -> None:
        """Ends a request early: with the step if it is in one that goes on, else at once."""
        if request in self.waiting:
            self.waiting.remove(request)
        elif self._in_step:
            self._dropped.append(request)
        else:
            self._end_early(request)

    def plan(self) -> PlannedStep | None:
        """The next step; None where there is nothing to do. `end_step` must follow a step."""
        preempted: list[ScheduledRequest] = []
        needing = self._needing[self.steps % self.limits.block_size]
        if len(needing) <= self.cache.free:
            self.cache.take(len(needing))
        else:
            needing = self._make_room(needing, preempted)
        if self.limits.prefix_caching:
            for request in needing:
                self._name_blocks(request, request.in_cache + self.steps)
        pieces = self._pieces = []
        if self._partial or (self.waiting and not preempted):
            self._plan_prompts(pieces, preempted)
        self._in_step = bool(self.decoding or pieces)
        if not self._in_step:
            return None
        return PlannedStep(len(self.decoding), self._kv_tokens, pieces, preempted)

    def end_step(self) -> StepOutcome:
        """Counts the tokens of the step that was planned last."""
        self._in_step = False
        self.steps += 1
        self._kv_tokens += len(self.decoding)
        finished = list(self._ending.pop(self.steps, ()))
        for request in finished:
            self._stop_decoding(request)
            self._free(request)
        begun: list[ScheduledRequest] = []
        if self._pieces:
            self._end_pieces(begun, finished)
        for request in self._dropped:
            if request not in finished:
                self._end_early(request)
        self._dropped.clear()
        return StepOutcome(begun, finished)

    def _make_room(
        self, needing: dict[ScheduledRequest, None], preempted: list[ScheduledRequest]
    ) -> dict[ScheduledRequest, None]:
        """Takes a block for each in order, from those that were admitted last if none is free.

        Returns those that have theirs.
        """
        have: dict[ScheduledRequest, None] = {}
        for request in sorted(needing, key=lambda each: each.order):
            while not self.cache.free and request in self.decoding:
                victim = self._partial or next(reversed(self.decoding))
                self._preempt(victim)
                preempted.append(victim)
            if request not in self.decoding:
                break
            self.cache.take(1)
            have[request] = None
        return have

    def _preempt(self, request: ScheduledRequest) -> None:
        self._end_early(request)
        request.in_cache = 0
        request.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(request)

    def _plan_prompts(self, pieces: list[PromptPiece], preempted: list[ScheduledRequest]) -> None:
        budget = self.limits.max_num_batched_tokens - len(self.decoding)
        if request := self._partial:
            tokens = min(budget, request.prompt_tokens + request.generated - request.in_cache)
            blocks = self._blocks(request.in_cache + tokens) - self._blocks(request.in_cache)
            if blocks > self.cache.free:  # it was admitted last, so nobody else makes room
                self._preempt(request)
                preempted.append(request)
            else:
                self.cache.take(blocks)
                self._add_piece(pieces, request, tokens)
                budget -= tokens
        if not preempted:
            self._admit(pieces, budget)

    def _admit(self, pieces: list[PromptPiece], budget: int) -> None:
        limits, skipped = self.limits, deque[ScheduledRequest]()
        while self.waiting and budget > 0 and self.running < limits.max_num_seqs:
            request = self.waiting[0]
            if self._lacks_adapter_slot(request):
                skipped.append(self.waiting.popleft())
                continue
            tokens = self._admitted_tokens(request, budget)
            if not tokens:
                break
            self.waiting.popleft()
            self._admitted += 1
            request.order = self._admitted
            if request.adapter is not None:
                self._adapters[request.adapter] += 1
            self._add_piece(pieces, request, tokens)
            budget -= tokens
        self.waiting.extendleft(reversed(skipped))

    def _lacks_adapter_slot(self, request: ScheduledRequest) -> bool:
        most, adapter = self.limits.max_loras, request.adapter
        if most is None or adapter is None or adapter in self._adapters:
            return False
        return len(self._adapters) >= most

    def _admitted_tokens(self, request: ScheduledRequest, budget: int) -> int:
        """Gives a waiting request blocks for its next piece; returns its tokens, 0 if none fit.

        Its whole prompt must fit into the free blocks, as vLLM demands by default.
        """
        limits, total = self.limits, request.prompt_tokens + request.generated
        hits: list[int] = []
        if limits.prefix_caching and request.keys is not None:
            # The last token is always computed: its step makes the next one.
            hits = self.cache.hits(request.keys, (total - 1) // limits.block_size)
        cached = len(hits) * limits.block_size
        tokens = total - cached
        if tokens > budget and not limits.chunked_prefill:
            return 0
        if not self.cache.fits(self._blocks(total), hits):
            return 0
        tokens = min(tokens, budget)
        self.cache.hold(hits)
        self.cache.take(self._blocks(cached + tokens) - len(hits))
        request.named_blocks = hits
        request.in_cache = cached
        if limits.prefix_caching and not request.preemptions:
            request.cached_tokens = cached
            self.prefix_queries += total
            self.prefix_hits += cached
        return tokens

    def _add_piece(self, pieces: list[PromptPiece], request: ScheduledRequest, tokens: int) -> None:
        pieces.append(PromptPiece(request, request.in_cache, tokens))
        if self.limits.prefix_caching:
            self._name_blocks(request, request.in_cache + tokens)

    def _name_blocks(self, request: ScheduledRequest, tokens: int) -> None:
        """Lets others find the blocks that `tokens` of a request fill."""
        if request.keys is None:
            return
        named = request.named_blocks
        for block in range(len(named), tokens // self.limits.block_size):
            named.append(self.cache.name(request.keys(block)))

    def _end_pieces(self, begun: list[ScheduledRequest], finished: list[ScheduledRequest]) -> None:
        pieces, self._pieces, self._partial = self._pieces, [], None
        for piece in pieces:
            request, ends = piece.request, piece.ends_prompt
            request.in_cache += piece.tokens
            request.computed_tokens += piece.tokens
            if not ends:
                self._partial = request
                continue
            request.generated += 1
            begun.append(request)
            if request.generated == request.output_tokens:
                finished.append(request)
                self._free(request)
            else:
                self._start_decoding(request)

    def _start_decoding(self, request: ScheduledRequest) -> None:
        self.decoding[request] = None
        self._kv_tokens += request.in_cache
        request.in_cache -= self.steps
        self._needing[-request.in_cache % self.limits.block_size][request] = None
        ends_at = self.steps + request.output_tokens - request.generated
        self._ending.setdefault(ends_at, {})[request] = None

    def _stop_decoding(self, request: ScheduledRequest) -> int:
        """Brings the request's counts up to date. Returns the step that ends or would end it."""
        del self.decoding[request]
        del self._needing[-request.in_cache % self.limits.block_size][request]
        request.in_cache += self.steps
        generated = request.in_cache - request.prompt_tokens + 1
        ends_at = self.steps + request.output_tokens - generated
        request.computed_tokens += generated - request.generated
        request.generated = generated
        self._kv_tokens -= request.in_cache
        return ends_at

    def _end_early(self, request: ScheduledRequest) -> None:
        if request is self._partial:
            self._partial = None
        else:
            del self._ending[self._stop_decoding(request)][request]
        self._free(request)

    def _free(self, request: ScheduledRequest) -> None:
        if self.limits.prefix_caching:
            self._name_blocks(request, request.in_cache)
        self.cache.release(request.named_blocks, self._blocks(request.in_cache))
        request.named_blocks = []
        if (adapter := request.adapter) is not None:
            self._adapters[adapter] -= 1
            if not self._adapters[adapter]:
                del self._adapters[adapter]

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.limits.block_size)
