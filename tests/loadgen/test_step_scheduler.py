"""Continuous batching, step by step: each sequence was worked out by hand from vLLM's rules.

A step is written as (requests that decode, tokens in their KV cache, pieces of prompts as (request,
tokens before, tokens), requests preempted).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.block_keys import keys_of_prefix, keys_of_words
from loadgen.emulator.planned_step import PlannedStep, ScheduledRequest
from loadgen.emulator.scheduler import ContinuousBatching

Row = tuple[int, int, list[tuple[int, int, int]], list[int]]


def row_of(step: PlannedStep) -> Row:
    pieces = [(piece.request.number, piece.before, piece.tokens) for piece in step.pieces]
    return step.decodes, step.kv_tokens, pieces, [each.number for each in step.preempted]


def rows_of(scheduler: ContinuousBatching, *requests: ScheduledRequest) -> list[Row]:
    """The steps until nothing is left to do."""
    for request in requests:
        scheduler.add(request)
    rows = []
    while step := scheduler.plan():
        rows.append(row_of(step))
        scheduler.end_step()
    return rows


def asked(*lengths: tuple[int, int]) -> list[ScheduledRequest]:
    """Requests 0, 1, ... with so many prompt and output tokens."""
    return [ScheduledRequest(i, prompt, output) for i, (prompt, output) in enumerate(lengths)]


def batching(**limits: Any) -> ContinuousBatching:
    return ContinuousBatching(BatchLimits(**{"max_num_seqs": 4, **limits}))


def test_a_prompt_is_one_step_and_makes_the_first_token() -> None:
    scheduler = batching()
    for request in asked((5, 3), (3, 2)):
        scheduler.add(request)
    first = scheduler.plan()
    assert first is not None and first.prefill_tokens == 8
    assert first.pairs == 5 * 2.5 + 3 * 1.5
    assert [each.number for each in scheduler.end_step().begun] == [0, 1]
    assert rows_of(scheduler) == [(2, 8, [], []), (1, 6, [], [])]


def test_a_long_prompt_comes_in_pieces_behind_those_that_decode() -> None:
    scheduler = batching(max_num_batched_tokens=8)
    assert rows_of(scheduler, *asked((5, 4), (12, 2))) == [
        (0, 0, [(0, 0, 5), (1, 0, 3)], []),
        (1, 5, [(1, 3, 7)], []),
        (1, 6, [(1, 10, 2)], []),
        (2, 7 + 12, [], []),
    ]


def test_without_pieces_a_long_prompt_waits_and_nobody_overtakes_it() -> None:
    scheduler = batching(max_num_batched_tokens=14, chunked_prefill=False)
    assert rows_of(scheduler, *asked((5, 3), (12, 2), (2, 1))) == [
        (0, 0, [(0, 0, 5)], []),
        (1, 5, [(1, 0, 12)], []),
        (2, 6 + 12, [(2, 0, 2)], []),
    ]


def test_no_step_has_more_than_max_num_seqs_requests() -> None:
    scheduler = batching(max_num_seqs=2)
    assert rows_of(scheduler, *asked((2, 2), (2, 3), (2, 1))) == [
        (0, 0, [(0, 0, 2), (1, 0, 2)], []),
        (2, 4, [], []),
        (1, 3, [(2, 0, 2)], []),
    ]


def test_a_full_cache_preempts_the_last_and_computes_all_its_tokens_again() -> None:
    first, last = asked((3, 4), (3, 3))
    scheduler = batching(kv_blocks=4, block_size=2)
    assert rows_of(scheduler, first, last) == [
        (0, 0, [(0, 0, 3), (1, 0, 3)], []),  # 2 blocks each
        (2, 6, [], []),  # the 4th token fills the 2nd block
        (1, 4, [], [1]),  # request 0 needs a 3rd
        (1, 5, [], []),  # 1 block is free, request 1 needs 3
        (0, 0, [(1, 0, 5)], []),  # 3 of its prompt, 2 of its answer
    ]
    assert (first.preemptions, last.preemptions, scheduler.preemptions) == (0, 1, 1)
    assert (first.computed_tokens, last.computed_tokens) == (3 + 3, 3 + 1 + 5)
    assert scheduler.cache.free == 4


def test_a_prompt_in_progress_without_space_preempts_itself() -> None:
    first, last = asked((2, 4), (6, 1))
    scheduler = batching(kv_blocks=4, block_size=2, max_num_batched_tokens=4)
    assert rows_of(scheduler, first, last) == [
        (0, 0, [(0, 0, 2), (1, 0, 2)], []),
        (1, 2, [], [1]),  # request 0 takes the 3rd block; 3 tokens after 2 need 2 more
        (1, 3, [], []),
        (1, 4, [], []),
        (0, 0, [(1, 0, 4)], []),
        (0, 0, [(1, 4, 2)], []),
    ]
    assert (last.preemptions, last.computed_tokens) == (1, 2 + 6)


def sharing(
    number: int, prompt: int, prefix: int, shared: int, output: int = 1
) -> ScheduledRequest:
    return ScheduledRequest(number, prompt, output, keys_of_prefix(prefix, shared, number, 4))


def test_full_blocks_of_a_known_prefix_are_not_computed_again() -> None:
    scheduler = batching(prefix_caching=True, block_size=4)
    asking = [sharing(0, 10, 7, 8), sharing(1, 10, 7, 8), sharing(2, 11, 7, 10)]
    assert rows_of(scheduler, *asking) == [(0, 0, [(0, 0, 10), (1, 8, 2), (2, 8, 3)], [])]
    assert rows_of(scheduler, sharing(3, 9, 7, 6)) == [(0, 0, [(3, 4, 5)], [])]
    # The last token is always computed, so of two known blocks one is computed again.
    assert rows_of(scheduler, sharing(4, 8, 7, 8)) == [(0, 0, [(4, 4, 4)], [])]
    assert rows_of(scheduler, sharing(5, 8, 6, 8)) == [(0, 0, [(5, 0, 8)], [])]
    assert scheduler.prefix_queries == 10 + 10 + 11 + 9 + 8 + 8
    assert scheduler.prefix_hits == 8 + 8 + 4 + 4
    assert [each.cached_tokens for each in asking] == [0, 8, 8]


def test_the_blocks_freed_first_make_room_and_of_a_request_its_last_ones() -> None:
    scheduler = batching(prefix_caching=True, block_size=4, kv_blocks=3)
    assert rows_of(scheduler, sharing(0, 8, 1, 8)) == [(0, 0, [(0, 0, 8)], [])]
    # Its two blocks stay, one is free without a name: another prompt of two takes the last of them.
    assert rows_of(scheduler, sharing(1, 8, 2, 8)) == [(0, 0, [(1, 0, 8)], [])]
    assert rows_of(scheduler, sharing(2, 9, 1, 8)) == [(0, 0, [(2, 4, 5)], [])]
    assert scheduler.cache.free == 3


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    first, last = sharing(0, 6, 1, 0, output=4), sharing(1, 7, 2, 0, output=3)
    scheduler = batching(prefix_caching=True, block_size=4, kv_blocks=4)
    assert rows_of(scheduler, first, last) == [
        (0, 0, [(0, 0, 6), (1, 0, 7)], []),  # 2 blocks each
        (2, 13, [], []),
        (1, 7, [], [1]),  # request 1 needs a 3rd block, and is the last itself
        (1, 8, [], []),  # request 0 needs a 3rd, and takes the last that request 1 filled
        (0, 0, [(1, 4, 5)], []),
    ]
    assert (last.preemptions, last.cached_tokens) == (1, 0)


def test_adapters_beyond_max_loras_wait_and_others_overtake_them() -> None:
    scheduler = batching(max_loras=1)
    lengths = [(2, 2, "a"), (2, 1, "b"), (2, 1, "a"), (2, 1, None), (2, 1, "b")]
    requests = [
        ScheduledRequest(i, prompt, output, adapter=adapter)
        for i, (prompt, output, adapter) in enumerate(lengths)
    ]
    assert rows_of(scheduler, *requests) == [
        (0, 0, [(0, 0, 2), (2, 0, 2), (3, 0, 2)], []),
        (1, 2, [], []),
        (0, 0, [(1, 0, 2), (4, 0, 2)], []),
    ]


def test_a_dropped_request_leaves_with_its_step_and_gives_its_blocks_back() -> None:
    scheduler = batching(kv_blocks=8, block_size=2, max_num_batched_tokens=8)
    decodes, partial, waits = asked((3, 5), (9, 2), (2, 1))
    for request in (decodes, partial, waits):
        scheduler.add(request)
    scheduler.plan()
    scheduler.end_step()
    step = scheduler.plan()
    assert step is not None and row_of(step) == (1, 3, [(1, 5, 4), (2, 0, 2)], [])
    for request in (decodes, partial):
        scheduler.drop(request)
    assert scheduler.end_step().finished == [waits]
    assert (scheduler.running, scheduler.cache.free, scheduler.plan()) == (0, 8, None)


def test_a_dropped_request_that_waits_leaves_at_once() -> None:
    scheduler = batching(max_num_seqs=1)
    requests = asked((3, 2), (9, 2), (4, 1))
    for request in requests:
        scheduler.add(request)
    scheduler.plan()
    scheduler.drop(requests[1])
    scheduler.end_step()
    assert rows_of(scheduler) == [(1, 3, [], []), (0, 0, [(2, 0, 4)], [])]


@pytest.mark.parametrize(
    ("limits", "lengths", "why"),
    [
        ({"kv_blocks": 2, "block_size": 4}, (5, 5), "9 tokens do not fit the KV cache of 8"),
        ({"max_num_batched_tokens": 9, "chunked_prefill": False}, (9, 2), "10 tokens do not fit"),
        ({}, (0, 2), "at least one token"),
    ],
)
def test_a_request_that_can_never_be_served_is_refused(
    limits: dict[str, Any], lengths: tuple[int, int], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        batching(**limits).add(*asked(lengths))


@pytest.mark.parametrize("limits", [{"max_num_batched_tokens": 3}, {"kv_blocks": 0}])
def test_limits_that_no_engine_can_keep_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        batching(**limits)


def test_blocks_are_the_same_where_all_words_up_to_their_end_are() -> None:
    def keys(text: str, answer: str = "", salt: str = "") -> list[Any]:
        words = text.split()
        key = keys_of_words(words, answer.split(), 2, salt)
        return [key(block) for block in range((len(words) + len(answer.split())) // 2)]

    assert keys("a b c d") == keys("a b", "c d") == keys("a b c d e")
    assert keys("a b c d")[0] == keys("a b d c")[0]
    assert keys("a b c d")[1] != keys("a b d c")[1]
    assert keys("x b c d")[1] != keys("a b c d")[1]
    assert keys("a b c d", salt="s")[0] != keys("a b c d")[0]


@dataclass
class Account:
    """What a request has, counted by itself from the steps that are planned."""

    request: ScheduledRequest
    in_cache: int = 0
    token_steps: list[int] = field(default_factory=list)
    first_step: int | None = None


lengths_ = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 14), st.integers(1, 9), st.integers(-1, 2)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=lengths_,
    max_num_seqs=st.integers(1, 5),
    more_tokens=st.integers(0, 20),
    kv_blocks=st.integers(8, 14),
    chunked=st.booleans(),
    caching=st.booleans(),
)
def test_every_token_once_first_come_first_served_and_within_the_limits(
    arrivals: Sequence[tuple[int, int, int, int]],
    max_num_seqs: int,
    more_tokens: int,
    kv_blocks: int,
    chunked: bool,
    caching: bool,
) -> None:
    budget = max(max_num_seqs + more_tokens, 1 if chunked else 22)
    scheduler = ContinuousBatching(
        BatchLimits(max_num_seqs, budget, kv_blocks, 3, chunked, prefix_caching=caching)
    )
    accounts: dict[ScheduledRequest, Account] = {}
    by_step = sorted(arrivals, key=lambda each: each[0])
    for number in range(500):
        for at, prompt, output, prefix in by_step[len(accounts) :]:
            if at > number:
                break
            place = len(accounts)
            keys = keys_of_prefix(prefix, prompt if prefix >= 0 else 0, place, 3)
            request = ScheduledRequest(place, prompt, output, keys)
            scheduler.add(request)
            accounts[request] = Account(request)
        step = scheduler.plan()
        if step is None:
            assert not scheduler.waiting
            if len(accounts) == len(arrivals):
                break
            continue
        account_for(step, number, scheduler, accounts)
    assert scheduler.cache.free == kv_blocks and not scheduler.running
    for account in accounts.values():
        assert len(account.token_steps) == account.request.output_tokens
        assert account.token_steps == sorted(set(account.token_steps))
    firsts = [account.first_step for account in accounts.values()]
    assert all(first is not None for first in firsts)
    assert firsts == sorted(firsts, key=lambda first: first or 0)


def account_for(
    step: PlannedStep,
    number: int,
    scheduler: ContinuousBatching,
    accounts: dict[ScheduledRequest, Account],
) -> None:
    """Checks a step against the limits and the accounts, and enters it into them."""
    limits = scheduler.limits
    for request in step.preempted:
        accounts[request].in_cache = 0
    decoding = list(scheduler.decoding)
    assert step.decodes == len(decoding) and not set(step.preempted) & set(decoding)
    assert step.kv_tokens == sum(accounts[request].in_cache for request in decoding)
    assert step.decodes + step.prefill_tokens <= limits.max_num_batched_tokens
    assert step.decodes + len(step.pieces) <= limits.max_num_seqs
    assert step.decodes + step.prefill_tokens > 0
    making = list(decoding)
    for piece in step.pieces:
        account = accounts[piece.request]
        known = piece.request.prompt_tokens + len(account.token_steps)
        if account.first_step is None or not account.in_cache:
            assert piece.before % limits.block_size == 0
            assert limits.prefix_caching or piece.before == 0
        else:
            assert piece.before == account.in_cache
        account.first_step = number if account.first_step is None else account.first_step
        account.in_cache = piece.before + piece.tokens
        assert account.in_cache <= known and piece.tokens > 0
        if account.in_cache == known:
            making.append(piece.request)
    for request in decoding:
        accounts[request].in_cache += 1
    blocks = [-(-each.in_cache // limits.block_size) for each in accounts.values()]
    held = (limits.kv_blocks or 0) - scheduler.cache.free
    assert held == sum(blocks) if not limits.prefix_caching else 0 < held <= sum(blocks)
    assert scheduler.cache.free >= 0
    for request in making:
        accounts[request].token_steps.append(number)
    outcome = scheduler.end_step()
    assert set(outcome.begun) == set(making) - set(decoding)
    ended = {each for each in making if len(accounts[each].token_steps) == each.output_tokens}
    assert set(outcome.finished) == ended
    for request in ended:
        accounts[request].in_cache = 0
