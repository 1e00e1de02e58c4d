from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

# One token every 2 ms after a first one at 30 ms: 11 tokens take 30 + 10 x 2 = 50 ms. Never faster.
BEHAVIOUR = ["--ttft", "30ms", "--itl", "2ms", "--tokens", "11"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The emulator, whose times and answers are known."""
    command = [sys.executable, "-m", "loadgen.emulator", "--port", "0", *BEHAVIOUR]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = re.search(r"\d+", process.stdout.readline().rpartition(":")[2])
    assert port is not None
    yield f"http://127.0.0.1:{port[0]}/v1"
    process.terminate()
    process.wait(10)
