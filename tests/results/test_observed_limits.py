"""The limit of a scheduler that closed loops show, and loads that show none."""

from __future__ import annotations

import numpy as np

from results.capacity.model.observed_limits import ClosedLoop, observed_seqs
from results.capacity.model.steps import Steps


def loop(in_flight: int, *running: tuple[int, int]) -> ClosedLoop:
    """Steps of so many requests that decode, and so many prompts."""
    decodes, prompts = np.array(running, float).T
    nothing = np.zeros(len(running))
    block = np.zeros(len(running), np.int64)
    steps = Steps(nothing + 0.01, decodes, prompts * 10, nothing, nothing, nothing, block, prompts)
    return ClosedLoop(in_flight, steps)


def test_steps_that_are_full_while_others_wait_show_the_limit() -> None:
    assert observed_seqs([loop(16, (8, 0), (7, 1), (6, 2), (8, 0), (3, 0))]) == 8


def test_steps_that_hold_all_that_is_in_flight_show_none() -> None:
    assert observed_seqs([loop(8, (8, 0), (8, 0), (7, 1))]) is None
    assert observed_seqs([]) is None


def test_a_number_that_comes_and_goes_is_no_limit_of_requests() -> None:
    assert observed_seqs([loop(16, (8, 0), (7, 0), (6, 0), (5, 1), (7, 0))]) is None


def test_another_loop_with_more_in_a_step_shows_that_it_was_none() -> None:
    full = loop(16, (8, 0), (8, 0), (8, 0))
    assert observed_seqs([full, loop(12, (12, 0), (12, 0))]) is None
