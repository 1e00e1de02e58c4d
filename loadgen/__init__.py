"""Workload and endpoint in, a request journal out: concurrent streaming traffic on an honest schedule.

In: an `Endpoint`, a `Stage`, prompts, a seed. Out: one journal a block (`foundation.run.records` is its schema).
Start at `schedule` (when), `sending.block` (one block of traffic, end to end), `transport` (how bytes get stamped).
`emulator` is a server of known behaviour, the oracle; `calibration` measures the load generator against it.
"""

from __future__ import annotations

from loadgen.prompts.questions import Question, pick_questions, questions_of
from loadgen.schedule.arrivals import planned_requests
from loadgen.schedule.interleave import interleave
from loadgen.sending.block import BlockPlan
from loadgen.sending.fleet import run_block, run_mix
from loadgen.sending.readiness import reach

__all__ = [
    "BlockPlan", "Question", "interleave", "pick_questions", "planned_requests", "questions_of", "reach", "run_block",
    "run_mix",
]  # fmt: skip
