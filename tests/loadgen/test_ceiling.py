"""How many workers a load gets."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.run.ceiling import Ceiling
from loadgen.config import WorkloadConfig
from loadgen.sending.workers_needed import workers_for

CEILING = Ceiling(machine="m", events_per_s=10_000, requests_per_s=1_000, streams=1_000)


@pytest.mark.parametrize(
    ("stage", "ceiling", "workers", "expected"),
    [
        ({"rate": 10}, CEILING, None, 1),  # 1,000 events/s
        ({"rate": 140}, CEILING, None, 2),  # 14,000: twice 70 % of the ceiling
        ({"rate": 141}, CEILING, None, 3),
        ({"rate": 10, "rate_to": 141}, CEILING, None, 3),
        ({"rate": 5000}, CEILING, None, 8),
        ({"concurrency": 71}, CEILING, None, 2),
        ({"concurrency": 8}, CEILING, None, 1),
        ({"trace": {"file": "t.jsonl"}}, CEILING, None, 1),
        ({"rate": 5000}, None, None, 1),
        ({"rate": 5000}, CEILING, 4, 4),
        ({"rate": 1}, Ceiling(machine="m", events_per_s=0, requests_per_s=0, streams=0), None, 8),
    ],
)
def test_each_worker_stays_under_its_ceiling(
    stage: dict[str, Any], ceiling: Ceiling | None, workers: int | None, expected: int
) -> None:
    workload = WorkloadConfig.model_validate(
        {
            "stages": [{**stage, "duration": "10s"}],
            "workers": workers,
            "sampling": {"max_tokens": 100},
        }
    )
    assert workers_for(workload.stages[0], workload, ceiling, cores=8) == expected
