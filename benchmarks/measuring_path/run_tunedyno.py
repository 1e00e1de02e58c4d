"""One block of tunedyno's load generator: URL STREAMS TOKENS TRANSPORT OUT."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from loadgen import BlockPlan, Question, run_block
from loadgen.config import WorkloadConfig
from loadgen.event_loop import run


def main(url: str, streams: str, tokens: str, transport: str, out: str) -> None:
    """Sends one load with tunedyno and writes its record."""
    workload = WorkloadConfig.model_validate(
        {
            "stages": [{"concurrency": int(streams), "requests": int(streams)}],
            "warmup": "0s",
            "api": "completions",
            "transport": transport,
            "workers": 1,
            "sampling": {"max_tokens": int(tokens)},
        }
    )
    prompts = [
        Question(f"stream {number}", [{"role": "user", "content": f"stream {number}"}])
        for number in range(int(streams))
    ]
    endpoint = Endpoint("rig", url, "emulated")
    plan = BlockPlan(endpoint, workload.stages[0], 1, 0, prompts, "plain", workload)
    run(run_block(plan, Path(out), Silent(), asyncio.Event()))


if __name__ == "__main__":
    main(*sys.argv[1:])
