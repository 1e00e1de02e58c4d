"""An engine of known step times that answers a block in no time, into a journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dyno.pipeline.blocks import LoadBlock
from foundation.run.records import JournalEnd, RequestRecord
from results.capacity.model.engine_model import StepTime
from tests.run_files import answer, header, lines


@dataclass
class Request:
    """A request in the engine. `sent` and `ends`: s, of each token. `prompt`, `wanted`: tokens."""

    number: int
    sent: float
    prompt: int
    wanted: int
    ends: list[float] = field(default_factory=list)


@dataclass
class VirtualEngine:
    """Answers closed loops by continuous batching, every prompt whole in one step.

    `noise`: the relative standard deviation of a step's time. `longest`: tokens of the longest
    prompt that it takes. `slots`: requests in a step. `clock`: whose stamps the client has.
    `log`: the blocks it answered. `origin_ns`: that of the last one.
    """

    times: StepTime
    noise: float = 0.0
    longest: int = 10**6
    slots: int = 10**6
    clock: Literal["kernel", "user"] = "kernel"
    log: list[LoadBlock] = field(default_factory=list)
    origin_ns: int = 10**12

    async def answer(self, block: LoadBlock) -> None:
        """Writes the block's journal, as if a client with the kernel's stamps had sent it."""
        requests, over = self._served(block)
        records = [_record(each) if each.prompt <= self.longest else _refused(each)
                   for each in requests]  # fmt: skip
        self.log.append(block)
        self.origin_ns += 10**12
        head = header(
            variant=block.variant,
            stage=block.stage.label,
            clock=self.clock,
            origin_monotonic_ns=self.origin_ns,
            concurrency=block.stage.concurrency,
            planned=len(requests),
            identity=block.identity,
        )
        end = JournalEnd(end="complete", ended_ns=_ns(over), window_end_ns=_ns(over))
        block.journal.parent.mkdir(parents=True, exist_ok=True)
        block.journal.write_bytes(lines(head, *records, end))

    def _served(self, block: LoadBlock) -> tuple[list[Request], float]:
        """The requests with their tokens, and when the last had its last token, s."""
        rng = np.random.default_rng(len(self.log))
        assert block.stage.concurrency is not None
        waiting = [
            Request(n, 0.0, len(q.messages[0]["content"].split()), q.output_tokens or 1)
            for n, q in enumerate(block.questions[: block.stage.requests])
        ]
        requests, now, running = list(waiting), 0.0, list[Request]()
        while waiting or running:
            while waiting and len(running) < block.stage.concurrency:
                waiting[0].sent = now
                running.append(waiting.pop(0))
            now += self._step(running[: self.slots]) * (1 + self.noise * rng.standard_normal())
            for each in running[: self.slots]:
                each.ends.append(now)
            running = [each for each in running if len(each.ends) < each.wanted]
        return requests, now

    def _step(self, running: list[Request]) -> float:
        prompts = [each.prompt for each in running if not each.ends]
        kv = [each.prompt + len(each.ends) - 1 for each in running if each.ends]
        pairs = sum(p * p / 2 for p in prompts)
        work = np.array([1, len(kv), sum(prompts), sum(kv), pairs])
        return float(work @ self.times.coefficients)


def _record(request: Request) -> RequestRecord:
    first, *others = map(_ns, request.ends)
    gaps = np.diff([first, *others]).tolist()
    return answer(
        request.number,
        f"{request.number:05d}",
        _ns(request.sent),
        [first, *gaps],
        input_tokens=request.prompt,
    )


def _refused(request: Request) -> RequestRecord:
    sent = _ns(request.sent)
    return RequestRecord(
        id=request.number,
        prompt_id=f"{request.number:05d}",
        scheduled_ns=sent,
        sent_ns=sent,
        done_ns=sent,
        status=400,
        failure="http_4xx",
        error="too long",
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
