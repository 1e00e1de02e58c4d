"""Continuous batching step by step, as plainly as it can be written: the simulator's oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf, nan

import numpy as np

from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.simulation.replicas import Replicas

Block = tuple[str, int | tuple[int, int], int]


@dataclass(eq=False)
class NaiveJob:
    """A request: `computed` of its tokens are in the KV cache, in `blocks`."""

    place: int
    queued: float
    input: int
    output: int
    prefix: int
    prefix_tokens: int
    adapter: int
    computed: int = 0
    stamps: list[float] = field(default_factory=list)
    scheduled: float = nan
    preemptions: int = 0
    decodes: bool = False
    blocks: set[Block] = field(default_factory=set)

    @property
    def known_tokens(self) -> int:
        return self.input + len(self.stamps)


class NaiveEngine:
    def __init__(self, model: EngineModel) -> None:
        self.model, self.limits = model, model.scheduler
        self.clock = 0.0
        self.running: list[NaiveJob] = []
        self.waiting: list[NaiveJob] = []
        self.ended: list[NaiveJob] = []
        self.cached: set[Block] = set()

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    def jobs_at(self, moment: float) -> int:
        unfinished = len(self.running) + len(self.waiting)
        return unfinished + sum(job.stamps[-1] >= moment for job in self.ended)

    def block(self, job: NaiveJob, k: int) -> Block:
        """The k-th block: of its prefix where all its tokens are the prefix's, else its own."""
        whole = (k + 1) * self.limits.block_size
        if self.limits.prefix_caching and whole <= min(job.prefix_tokens, job.known_tokens - 1):
            return ("prefix", (job.prefix, job.adapter), k)
        return ("job", job.place, k)

    def blocks_of(self, job: NaiveJob, tokens: int) -> set[Block]:
        size = self.limits.block_size
        return job.blocks | {self.block(job, k) for k in range(-(-tokens // size))}

    def fits(self, job: NaiveJob, tokens: int) -> bool:
        if self.limits.kv_blocks is None:
            return True
        used = set().union(*(each.blocks for each in self.running))
        return len(used | self.blocks_of(job, tokens)) <= self.limits.kv_blocks

    def give(self, job: NaiveJob, tokens: int) -> None:
        job.blocks = self.blocks_of(job, tokens)
        full = tokens // self.limits.block_size
        self.cached |= {b for b in job.blocks if b[0] == "prefix" and b[2] < full}

    def preempt_last(self) -> NaiveJob:
        job = self.running.pop()
        job.computed, job.blocks, job.decodes = 0, set(), False
        job.preemptions += 1
        self.waiting.insert(0, job)
        return job

    def step(self) -> None:
        budget = self.limits.max_num_batched_tokens or 10**9
        pieces: dict[NaiveJob, int] = {}
        preempted = self.serve_running(budget, pieces)
        if not preempted:
            self.admit(budget, pieces)
        self.end_step(pieces)

    def serve_running(self, budget: int, pieces: dict[NaiveJob, int]) -> bool:
        preempted, index = False, 0
        while index < len(self.running):
            job = self.running[index]
            piece = min(job.known_tokens - job.computed, budget - sum(pieces.values()))
            while not self.fits(job, job.computed + piece):
                preempted = True
                if self.preempt_last() is job:
                    return True
            self.give(job, job.computed + piece)
            pieces[job] = piece
            index += 1
        return preempted

    def admit(self, budget: int, pieces: dict[NaiveJob, int]) -> None:
        seqs = min(self.limits.max_num_seqs or 10**9, budget)
        for job in list(self.waiting):
            left = budget - sum(pieces.values())
            if left == 0 or len(self.running) == seqs:
                return
            adapters = {each.adapter for each in self.running if each.adapter >= 0}
            others = adapters - {job.adapter}
            if self.limits.max_loras and job.adapter >= 0 and len(others) == self.limits.max_loras:
                continue
            k = 0
            while self.block(job, k) in self.cached:
                k += 1
            hit = k * self.limits.block_size
            piece = job.known_tokens - hit
            if piece > left and not self.limits.chunked_prefill:
                return
            if not self.fits(job, job.known_tokens):
                return
            self.waiting.remove(job)
            self.running.append(job)
            job.computed, pieces[job] = hit, min(piece, left)
            self.give(job, hit + pieces[job])
            if np.isnan(job.scheduled):
                job.scheduled = self.clock

    def end_step(self, pieces: dict[NaiveJob, int]) -> None:
        t = self.model.steps
        decoding = [job for job in pieces if job.decodes]
        prompts = [job for job in pieces if not job.decodes]
        decodes, tokens = len(decoding), sum(pieces[job] for job in prompts)
        if t.free_tokens is not None:
            taken = max(0, decodes + tokens - t.free_tokens)
            decodes, tokens = decodes * taken / max(1, decodes + tokens), taken
        seconds = (
            t.fixed
            + t.per_decode * decodes
            + t.per_prefill_token * tokens
            + t.per_kv_token * sum(job.computed for job in decoding)
            + t.per_pair * sum(pieces[j] * (j.computed + pieces[j] / 2) for j in prompts)
        )
        jumps = t.jump is not None and len(pieces) > t.jump.above
        self.clock += seconds * t.jump.factor if t.jump and jumps else seconds
        for job, piece in pieces.items():
            job.computed += piece
            if job.computed == job.known_tokens:
                job.stamps.append(self.clock)
                job.decodes = True
            if len(job.stamps) == job.output:
                self.running.remove(job)
                self.ended.append(job)
                job.blocks = set()


def naive(model: EngineModel, demand: Demand, replicas: Replicas) -> list[tuple[NaiveJob, int]]:
    """Every request as it ended and its replica, in the demand's order.

    A prefix that one request has is its own: it computes its own tokens again.
    """
    front = model.front
    names = list(zip(demand.prefix.tolist(), demand.adapter.tolist(), strict=True))
    uses = Counter(names)
    assigned, serving = replicas.assigned(demand), replicas.serving(demand)
    jobs = [
        NaiveJob(
            i,
            demand.arrival[i] + front.per_request + front.per_input_token * demand.input_tokens[i],
            int(demand.input_tokens[i]),
            int(demand.output_tokens[i]),
            int(demand.prefix[i]),
            int(demand.prefix_tokens[i]) if uses[names[i]] > 1 else 0,
            int(demand.adapter[i]),
        )
        for i in range(len(demand))
    ]
    engines = [NaiveEngine(model) for _ in range(replicas.most)]
    coming = sorted(jobs, key=lambda job: job.queued)
    place_of = {}
    while coming or any(engine.busy for engine in engines):
        busy = [engine for engine in engines if engine.busy]
        first = min(busy, key=lambda engine: engine.clock, default=None)
        moment = coming[0].queued if coming else inf
        if first is not None and first.clock < moment:
            first.step()
            continue
        job = coming.pop(0)
        if assigned is None:
            counts = [e.jobs_at(moment) for e in engines[: serving[job.place]]]
            place_of[job] = int(np.argmin(counts))
        else:
            place_of[job] = int(assigned[job.place])
        engine = engines[place_of[job]]
        if not engine.busy:
            engine.clock = max(engine.clock, moment)
        engine.waiting.append(job)
    return [(job, place_of[job]) for job in jobs]
