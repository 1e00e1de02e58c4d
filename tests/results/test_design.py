"""The design of model loads: points known to be D-optimal, budgets, and what stays open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from foundation.arrays import Floats
from results.capacity.model.design import Design, RelativeErrors, gain, information, not_fixed
from results.capacity.model.engine_model import COEFFICIENTS, Scheduler, StepTime
from results.capacity.model.loads import (
    ModelLoad,
    StepKinds,
    candidate_loads,
    sized,
    steps_of,
)

ALONE = RelativeErrors(step=0.1, load=0.0)
TIMES = StepTime(8e-3, 4e-4, 4e-5, 1e-7, 1e-8)
SCHEDULER = Scheduler(max_num_seqs=32, max_num_batched_tokens=2048, kv_blocks=2000)


def decoding(count: float, *requests: float) -> StepKinds:
    """StepKinds that decode so many requests, without prompts and context."""
    work = [[1.0, each, 0.0, 0.0, 0.0] for each in requests]
    return StepKinds(np.array(work), np.full(len(requests), count))


def chosen(times: StepTime, errors: RelativeErrors, known: Floats, a_second: bool) -> int:
    """The decoding requests, 0 to 20, whose step adds most; for each second, or for itself."""
    steps = [decoding(1, x) for x in range(21)]
    scale = np.ones(len(COEFFICIENTS))
    gains = [gain(known, information(each, times, errors), scale) for each in steps]
    cost = [each.seconds(times) if a_second else 1.0 for each in steps]
    return int(np.argmax(np.array(gains) / cost))


def test_a_line_with_equal_errors_is_measured_at_both_ends_equally_often() -> None:
    # The textbook's answer for y = a + b x: half of the points at either end of the range.
    times, known, points = StepTime(1.0, 0.0, 0.0), np.zeros((5, 5)), Counter[int]()
    for _ in range(10):
        point = chosen(times, ALONE, known, a_second=False)
        points[point] += 1
        known = known + information(decoding(1, point), times, ALONE)
    assert points == {0: 5, 20: 5}


def test_for_each_second_the_far_point_lies_at_twice_the_ratio_of_the_coefficients() -> None:
    # Steps take T = a + b x, errors grow with T: from x = 0 the gain a second is x^2 / T^3, which
    # is largest where 2 T = 3 b x, at x = 2 a / b = 4.
    times, errors = StepTime(1.0, 0.5, 0.0), RelativeErrors(step=30.0, load=0.0)
    known = information(decoding(1e9, 0), times, errors)
    assert chosen(times, errors, known, a_second=True) == 4
    assert chosen(times, errors, known, a_second=False) == 20


def test_information_is_that_of_errors_of_their_own_and_one_in_common() -> None:
    errors = RelativeErrors(step=0.05, load=0.02)
    steps = StepKinds(np.array([[1, 4, 0, 400, 0], [1, 3, 100, 300, 5000.0]]), np.array([3.0, 2.0]))
    rows = np.repeat(steps.work, [3, 2], axis=0)
    seconds = rows @ TIMES.coefficients
    covariance = np.outer(seconds, seconds) * (0.05**2 * np.eye(5) + 0.02**2)
    expected = rows.T @ np.linalg.inv(covariance) @ rows
    np.testing.assert_allclose(information(steps, TIMES, errors), expected, rtol=1e-9)


def test_steps_of_a_load_are_those_counted_by_hand() -> None:
    steps = steps_of(ModelLoad(2, 10, 4, waves=2), Scheduler())
    # Both first prompts at once; then each of the second wave beside a request of 10 + 4 / 2 tokens
    # that decodes; the other 6 of 2 x 4 steps decode both.
    work = [[1, 0, 20, 0, 100], [1, 1, 10, 12, 50], [1, 2, 0, 24, 0]]
    np.testing.assert_array_equal(steps.work, work)
    np.testing.assert_array_equal(steps.count, [1, 2, 6])


def test_a_long_prompt_is_computed_in_pieces() -> None:
    steps = steps_of(ModelLoad(1, 100, 2), Scheduler(max_num_batched_tokens=41))
    np.testing.assert_array_equal(steps.count[:2], [3, 3])
    np.testing.assert_allclose(steps.work[:2, 2], [100 / 3, 100 / 3])
    assert steps.work[:2, 4] @ steps.count[:2] == pytest.approx(2 * 100 * 100 / 2)


@pytest.mark.parametrize("budget", [2.0, 10.0, 60.0, 180.0])
def test_loads_never_take_more_than_the_budget(budget: float) -> None:
    design = Design(candidate_loads(SCHEDULER, 1024, 32), TIMES, SCHEDULER)
    loads = design.loads(budget)
    assert sum(map(design.seconds, loads)) <= budget
    assert bool(loads) == (budget > 4)


def test_a_design_of_three_minutes_fixes_all_and_reaches_the_limits() -> None:
    design = Design(candidate_loads(SCHEDULER, 1024, 32), TIMES, SCHEDULER)
    loads = design.loads(180.0)
    assert not_fixed(design.information(loads)) == ()
    assert max(load.in_flight for load in loads) == 32
    assert max(load.context for load in loads) == 1024


def test_a_design_tells_more_than_loads_drawn_by_chance_in_the_same_time() -> None:
    candidates = candidate_loads(SCHEDULER, 1024, 32)
    design, rng = Design(candidates, TIMES, SCHEDULER), np.random.default_rng(3)

    def told(loads: Sequence[ModelLoad]) -> float:
        return float(np.linalg.slogdet(design.information(loads))[1])

    def by_chance() -> list[ModelLoad]:
        loads: list[ModelLoad] = []
        while sum(map(design.seconds, loads)) < 120:
            loads.append(sized(candidates[rng.integers(len(candidates))], SCHEDULER, TIMES))
        return loads

    assert told(design.loads(120.0)) > max(told(by_chance()) for _ in range(8))


def test_what_the_loads_leave_open_is_named() -> None:
    def fixed_by(*work: Sequence[float]) -> tuple[str, ...]:
        return not_fixed(information(StepKinds(np.array(work), np.ones(len(work))), TIMES, ALONE))

    one_batch = [1.0, 4, 0, 400, 0]
    assert fixed_by(one_batch, one_batch) == COEFFICIENTS
    assert fixed_by([1, 1, 0, 0, 0], [1, 2, 0, 0, 0], [1, 0, 100, 0, 0]) == (
        "per_kv_token",
        "per_pair",
    )
    one_context = [[1.0, b, 0, 100 * b, 0] for b in (1, 2, 8)]
    assert fixed_by(*one_context, [1, 0, 100, 0, 5000], [1, 0, 200, 0, 20000]) == (
        "per_decode",
        "per_kv_token",
    )


def test_candidates_keep_to_the_servers_limits() -> None:
    scheduler = Scheduler(max_num_seqs=24, kv_blocks=50, block_size=16)
    loads = candidate_loads(scheduler, 512, 20)
    assert {load.in_flight for load in loads} == {1, 2, 4, 8, 16}  # 24 of three blocks are too many
    assert all(load.context <= 512 and load.input_tokens >= 20 for load in loads)
    assert all(load.in_flight * -(-load.context // 16) <= 50 for load in loads)
    assert candidate_loads(scheduler, 40, 20) == []
