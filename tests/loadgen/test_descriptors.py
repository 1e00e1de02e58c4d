"""Whether a process may open a connection for each request in flight is known before a load."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from loadgen.config import WorkloadConfig
from loadgen.sending.descriptors import most_in_flight


@pytest.mark.parametrize(
    ("stage", "variants", "most"),
    [
        ({"concurrency": 300, "duration": "9s"}, 5, 300),
        ({"rate": 1000, "requests": 5000}, 1, 2048),
        ({"rate": 5, "requests": 20, "arrivals": "constant"}, 1, 20),
        ({"rate": 50, "duration": "2s", "arrivals": "constant"}, 1, 100),
        ({"rate": 1000, "requests": 5000, "mix": "uniform"}, 3, 5000),
        ({"rate": 1000, "requests": 9000, "mix": "uniform"}, 3, 3 * 2048),
        ({"rate": {"of": "base", "share": "60%"}, "duration": "9s"}, 1, 2048),
    ],
)
def test_the_most_in_flight(stage: dict[str, Any], variants: int, most: int) -> None:
    workload = WorkloadConfig.model_validate({"stages": [stage], "warmup": "0s"})
    assert most_in_flight(workload.stages[0], workload, variants) == most


ASKS = """
import json, resource, sys
from foundation.errors import BadInput
from loadgen.config import WorkloadConfig
from loadgen.sending.descriptors import allow_connections

resource.setrlimit(resource.RLIMIT_NOFILE, (80, 400))
for concurrency in (8, 100, 399):
    stages = [{"concurrency": concurrency, "duration": "9s"}]
    workload = WorkloadConfig.model_validate({"stages": stages, "workers": 1})
    try:
        allow_connections(workload, 1)
        message = ""
    except BadInput as error:
        message = str(error)
    print(json.dumps([resource.getrlimit(resource.RLIMIT_NOFILE), message]))
"""


def test_the_soft_limit_is_raised_as_far_as_needed_and_the_hard_one_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True)
    few, more, too_many = map(json.loads, done.stdout.splitlines())
    assert (few[0][1], few[1]) == (400, "")
    assert 100 + 64 < more[0][0] < 300 and more[1] == ""
    assert too_many[0] == more[0]
    assert too_many[1].startswith("concurrency-399: up to 399 requests in flight need 4")
    assert (
        "and the system allows 400: allow more (ulimit -n), or write a lower concurrency"
        in too_many[1]
    )
