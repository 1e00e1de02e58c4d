"""Which prompts a block asks, and the order in which variants take turns."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import interleave, pick_questions
from loadgen.config import Stage
from tests.loadgen.conftest import questions

STAGE = Stage.model_validate({"rate": 1, "requests": 10})


def ids(count: int, block: int, n: int | None, seed: int = 0, stage: Stage = STAGE) -> list[str]:
    return [question.id for question in pick_questions(questions(count), stage, block, seed, n)]


def test_blocks_ask_all_questions_before_any_comes_again() -> None:
    picked = [q for block in (1, 2, 3, 4) for q in ids(20, block, 5)[:5]]
    assert sorted(picked) == sorted(q.id for q in questions(20))
    later = [q for block in (5, 6, 7, 8) for q in ids(20, block, 5)[:5]]
    assert sorted(later) == sorted(picked) and later != picked


@given(count=st.integers(1, 30), n=st.integers(1, 70), block=st.integers(1, 12))
def test_no_question_is_more_than_one_time_ahead_of_another(count: int, n: int, block: int) -> None:
    times = Counter(q for b in range(1, block + 1) for q in ids(count, b, n)[:n])
    picked = [times[q.id] for q in questions(count)]
    assert sum(picked) == n * block
    assert max(picked) - min(picked) <= 1


def test_a_block_is_the_same_each_time_and_stages_differ() -> None:
    assert ids(50, 2, 10) == ids(50, 2, 10)
    other = Stage.model_validate({"concurrency": 4, "requests": 10})
    assert ids(50, 2, 10) != ids(50, 2, 10, stage=other)
    assert ids(50, 2, 10) != ids(50, 2, 10, seed=1)


def test_what_follows_a_block_s_own_questions_are_others() -> None:
    picked = ids(50, 2, 10)
    assert len(set(picked)) == 50


def test_without_a_number_a_block_is_a_permutation_of_all() -> None:
    assert sorted(ids(9, 1, None)) == sorted(ids(9, 2, None)) == sorted(q.id for q in questions(9))
    assert ids(9, 1, None) != ids(9, 2, None)


def test_no_questions_is_an_error() -> None:
    with pytest.raises(ValueError, match="no questions"):
        pick_questions([], STAGE, 1, 0, 1)


def test_two_variants_alternate() -> None:
    rows = interleave(["a", "b"], 6, 0)
    assert rows[0] != rows[1] and rows == rows[:2] * 3
    assert sorted(rows[0]) == ["a", "b"]
    assert {tuple(interleave(["a", "b"], 1, seed)[0]) for seed in range(20)} == {
        ("a", "b"),
        ("b", "a"),
    }


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7])
def test_a_full_cycle_is_balanced_in_place_and_in_what_goes_before(k: int) -> None:
    names = [f"v{i}" for i in range(k)]
    blocks = 2 * k if k % 2 else k
    rows = interleave(names, blocks, 3)
    for row in rows:
        assert sorted(row) == names
    places = Counter((place, name) for row in rows for place, name in enumerate(row))
    assert set(places.values()) == {blocks // k} and len(places) == k * k
    follows = Counter(pair for row in rows for pair in pairwise(row))
    assert len(set(follows.values())) <= 1 and len(follows) == k * (k - 1)


@given(k=st.integers(1, 7), pairs=st.integers(1, 8), seed=st.integers(0, 50))
def test_every_two_blocks_cancel_a_linear_drift(k: int, pairs: int, seed: int) -> None:
    rows = interleave([f"v{i}" for i in range(k)], 2 * pairs, seed)
    for there, back in zip(rows[::2], rows[1::2], strict=True):
        assert there == back[::-1]
