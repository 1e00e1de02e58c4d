from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# One token every 2 ms after a first one at 30 ms: 11 tokens take 30 + 10 x 2 = 50 ms. Never faster.
BEHAVIOUR = ["--ttft", "30ms", "--itl", "2ms", "--tokens", "11"]


# The same after a first token at 1 s. A busy machine sends late, at times by a fifth of a second:
# little beside this latency. A test that needs a verdict needs a valid measurement.
CALM = ["--ttft", "1s", "--itl", "2ms", "--tokens", "11"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The emulator, whose times and answers are known."""
    with emulator(BEHAVIOUR) as address:
        yield address


@pytest.fixture(scope="module")
def calm_url() -> Iterator[str]:
    """An emulator beside whose latency a fifth of a second is little."""
    with emulator(CALM) as address:
        yield address


@contextmanager
def emulator(behaviour: list[str]) -> Iterator[str]:
    command = [sys.executable, "-m", "loadgen.emulator", "--port", "0", *behaviour]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = re.search(r"\d+", process.stdout.readline().rpartition(":")[2])
        assert port is not None
        yield f"http://127.0.0.1:{port[0]}/v1"
    finally:
        process.terminate()
        process.wait(10)
