"""Concurrent streaming traffic on an exact schedule: workload and endpoint in, journals out.

Input: an `Endpoint`, a `Stage`, prompts, a seed. Output: one journal a block, with the schema in
`foundation.run.records`. Start with `schedule` (the times), `sending.block` (one block of traffic
from end to end) and `transport` (how bytes get stamps). `emulator` is a server of known behaviour,
the oracle. `calibration` measures the load generator against it.
"""

from __future__ import annotations

from loadgen.prompts.questions import Question, pick_questions, questions_of
from loadgen.schedule.arrivals import planned_requests
from loadgen.schedule.interleave import interleave
from loadgen.sending.block import BlockPlan
from loadgen.sending.fleet import run_block, run_mix
from loadgen.sending.readiness import reach

__all__ = [
    "BlockPlan",
    "Question",
    "interleave",
    "pick_questions",
    "planned_requests",
    "questions_of",
    "reach",
    "run_block",
    "run_mix",
]
