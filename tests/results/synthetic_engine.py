"""An engine of known coefficients that batches continuously, in virtual time.

It shares no code with the emulator nor with what fits a model. It writes what a run leaves on disk:
a journal of what the client sees, and the engine's own record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from foundation.arrays import Floats
from foundation.run.engine_record import EngineLimits, EngineLine, EngineStep
from foundation.run.records import JournalEnd, RequestRecord
from tests.run_files import answer, engine_request, engine_start, header, write_block, write_engine

TRUE = np.array([4e-3, 0.5e-3, 0.05e-3, 0.4e-6, 0.0])
"""Seconds: a step, a request that decodes, a prompt token, a token in the KV cache, a pair."""
BUDGET = 512
"""Tokens in a step."""
FRONT_S, TOKEN_S, BACK_S = 2e-3, 5e-6, 0.3e-3
"""Before the queue: a request, a token of its prompt; and the way back of a token."""


@dataclass
class Job:
    """A request: when it was sent, how long it is, and what becomes of it, s."""

    sent: float
    input_tokens: int
    output_tokens: int
    computed: int = 0
    scheduled: float = -1.0
    tokens: list[float] = field(default_factory=list)

    @property
    def queued(self) -> float:
        """In the engine's queue."""
        return self.sent + FRONT_S + TOKEN_S * self.input_tokens

    @property
    def context(self) -> int:
        """Tokens in the KV cache before it decodes the next one."""
        return self.input_tokens + len(self.tokens) - 1


@dataclass(frozen=True)
class Step:
    """A step: its end and length, s, its work D, P, K and A, and the prompts in it."""

    end: float
    seconds: float
    work: tuple[int, int, int, float]
    prompts: int
    running: int


def serve(jobs: Sequence[Job], coefficients: Floats, noise: float, seed: int) -> list[Step]:
    """Runs the jobs, in the order of their arrival; each step's time has an error of `noise`."""
    rng = np.random.default_rng(seed)
    waiting, running, steps, now = sorted(jobs, key=lambda job: job.queued), [], [], 0.0
    while waiting or running:
        if not running:
            now = max(now, waiting[0].queued)
        decoding = [job for job in running if job.tokens]
        budget, pieces = BUDGET - len(decoding), []
        prompts = [job for job in running if not job.tokens]
        while budget and (prompts or (waiting and waiting[0].queued <= now)):
            job = prompts.pop(0) if prompts else waiting.pop(0)
            if job.scheduled < 0:
                job.scheduled = now
                running.append(job)
            piece = min(budget, job.input_tokens - job.computed)
            pieces.append((job, piece))
            budget -= piece
        work = (
            len(decoding),
            sum(piece for _, piece in pieces),
            sum(job.context for job in decoding),
            sum(piece * (job.computed + piece / 2) for job, piece in pieces),
        )
        seconds = float(coefficients @ [1, *work]) * float(np.exp(noise * rng.standard_normal()))
        now += seconds
        for job, piece in pieces:
            job.computed += piece
        for job in [*decoding, *(job for job, _ in pieces if job.computed == job.input_tokens)]:
            job.tokens.append(now)
        running = [job for job in running if len(job.tokens) < job.output_tokens]
        steps.append(Step(now, seconds, work, len(pieces), len(running)))
    return steps


def record_of(id: int, job: Job, noise_s: float, rng: np.random.Generator) -> RequestRecord:
    """What the client sees of a job: every token in a chunk, up to `noise_s` late."""
    at = [ns(token + BACK_S + noise_s * rng.random()) for token in job.tokens]
    sent = ns(job.sent)
    return answer(
        id, f"q{id}", sent, [at[0], *(b - a for a, b in pairwise(at))], done_ns=at[-1],
        input_tokens=job.input_tokens,
    )  # fmt: skip


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def write_run(
    run: Path, rates: Sequence[float], seconds: float = 20.0, noise: float = 0.03,
    coefficients: Floats = TRUE, most_prompt: int = 300,
) -> None:  # fmt: skip
    """A run of variant "v" with a block at each rate (requests/s), and its engine record."""
    lines: list[EngineLine] = [
        engine_start(limits=EngineLimits(max_num_seqs=64, max_num_batched_tokens=BUDGET))
    ]
    for number, rate in enumerate(rates, start=1):
        rng = np.random.default_rng(number)
        arrivals = np.cumsum(rng.exponential(1 / rate, round(rate * seconds)))
        jobs = [
            Job(float(at), int(rng.integers(10, most_prompt)), int(rng.integers(2, 60)))
            for at in arrivals
        ]
        steps = serve(jobs, coefficients, noise, number)
        origin = number * 10**12
        head = header(
            stage=f"at-{rate:g}", clock="kernel", origin_monotonic_ns=origin, origin_unix_ns=origin,
            offered_rate=rate, planned=len(jobs), window_end_ns=ns(seconds),
        )  # fmt: skip
        end = JournalEnd(end="complete", ended_ns=ns(steps[-1].end + 1), window_end_ns=ns(seconds))
        records = [record_of(i, job, 0.2e-3, rng) for i, job in enumerate(jobs)]
        write_block(run, head, records, end)
        lines += engine_lines(jobs, steps, origin)
    write_engine(run, "v", *lines)


def engine_lines(jobs: Sequence[Job], steps: Sequence[Step], origin: int) -> list[EngineLine]:
    """The engine's own record of a block."""
    requests = [
        engine_request(
            origin, i,
            (ns(job.scheduled) - ns(job.queued), ns(job.tokens[0]) - ns(job.scheduled),
             ns(job.tokens[-1]) - ns(job.tokens[0])),
            finished_ns=origin + ns(job.tokens[-1]), input_tokens=job.input_tokens,
            output_tokens=job.output_tokens,
            in_server_ns=ns(job.tokens[-1]) - ns(job.sent) - ns(FRONT_S / 2),
        )
        for i, job in enumerate(jobs)
    ]  # fmt: skip
    return [
        *requests,
        *(
            EngineStep(
                ended_ns=origin + ns(step.end), elapsed_ns=ns(step.seconds),
                context_requests=step.prompts, context_tokens=step.work[1],
                generation_requests=step.work[0], generation_tokens=step.work[0],
                running=step.running,
            )
            for step in steps
        ),
    ]  # fmt: skip
