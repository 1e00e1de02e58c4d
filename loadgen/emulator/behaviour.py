"""The emulator's settings: distributions of times and lengths, slots, faults."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass, replace

from foundation.units import parse_count, parse_number, parse_seconds

FAULTS = {
    "reset-connect": "resets the connection as soon as it is accepted (whole server only)",
    "reset-headers": "resets in the middle of the response headers",
    "reset-event": "resets in the middle of an event",
    "close-event": "closes in the middle of an event",
    "silent": "takes the request and never answers",
    "stall": "sends some tokens, then nothing more",
    "comments": "sends some tokens, then only comments",
    "trickle": "sends one byte at a time",
    "no-finish": "ends the stream as HTTP wants it, without finish reason and [DONE]",
    "no-done": "ends the stream with a finish reason, without [DONE]",
    "abort": "sends some tokens, then ends the answer with the finish reason abort",
    "error-event": "sends some tokens, then an error event",
    "bad-json": "sends an event that is not JSON",
    "html": "answers 200 with an HTML page",
    "long-length": "promises more bytes than it sends, then closes",
    "short-length": "promises fewer bytes than the stream has",
    "http-429": "answers 429 with a JSON body",
    "http-500": "answers 500 with a JSON body",
    "http-503": "answers 503 with a JSON body",
    "http-429-empty": "answers 429 without a body",
    "http-500-empty": "answers 500 without a body",
    "http-503-empty": "answers 503 without a body",
}
_FAULT_IN_PROMPT = re.compile(r"\bfault:([a-z0-9-]+)")
_TIME_IN_PROMPT = re.compile(r"\b(front|queue|ttft|itl|end):([0-9.]+m?s)\b")


@dataclass(frozen=True)
class Distribution:
    """A fixed or a random number.

    It is written "20ms", "exponential:20ms", "lognormal:20ms:0.5" (median, sigma) or
    "uniform:10ms:30ms".
    """

    kind: str
    first: float
    second: float = 0.0

    @classmethod
    def parse(cls, text: str, counts: bool = False) -> Distribution:
        """Parses seconds, or whole numbers if `counts`. Raises ValueError."""
        number = parse_count if counts else parse_seconds
        kind, _, rest = text.partition(":")
        parts = rest.split(":")
        if not rest:
            return cls("fixed", number(kind))
        if kind == "exponential" and len(parts) == 1:
            return cls(kind, number(parts[0]))
        if kind == "lognormal" and len(parts) == 2:
            return cls(kind, number(parts[0]), parse_number(parts[1]))
        if kind == "uniform" and len(parts) == 2:
            return cls(kind, number(parts[0]), number(parts[1]))
        raise ValueError(
            f"write 20ms, exponential:20ms, lognormal:20ms:0.5 or uniform:10ms:30ms, not {text!r}"
        )

    def draw(self, rng: random.Random) -> float:
        """Draws a number."""
        if self.kind == "exponential":
            return rng.expovariate(1 / self.first) if self.first else 0.0
        if self.kind == "lognormal":
            return self.first * math.exp(rng.gauss(0, self.second))
        if self.kind == "uniform":
            return rng.uniform(self.first, self.second)
        return self.first


NO_TIME = Distribution("fixed", 0.0)


@dataclass(frozen=True)
class Behaviour:
    """The settings of the whole server.

    `front`: seconds before a request reaches the engine's queue. `queue`: seconds in that queue
    before it may have a slot. `end`: seconds from the last text to the last token, which has none.
    `metrics`: the last chunk has the request's times in the engine, as vLLM's does on request.
    `slots` 0: no limit. `lockstep`: seconds between engine steps, each of which sends every running
    request its next token; then `itl` is not used. `tokens_per_chunk`: tokens that share an event.
    `fault_every`: every so many requests one has the server's own fault.
    """

    ttft: Distribution
    itl: Distribution
    tokens: Distribution
    front: Distribution = NO_TIME
    queue: Distribution = NO_TIME
    end: Distribution = NO_TIME
    metrics: bool = False
    slots: int = 0
    lockstep: float = 0.0
    tokens_per_chunk: int = 1
    usage: bool = True
    owned_by: str = "emulator"
    fault: str | None = None
    fault_every: int = 1
    seed: int = 0

    def fault_for(self, prompt: str, number: int) -> str | None:
        """The fault named in a prompt ("fault:stall"), else the server's own if it is this
        request's turn.
        """
        named = _FAULT_IN_PROMPT.search(prompt)
        if named and named[1] in FAULTS:
            return named[1]
        return None if number % self.fault_every else self.fault

    def for_prompt(self, prompt: str) -> Behaviour:
        """The behaviour with the times that a prompt names ("queue:200ms") in place of its own."""
        times = {name: Distribution.parse(time) for name, time in _TIME_IN_PROMPT.findall(prompt)}
        if not times:
            return self
        return replace(
            self,
            front=times.get("front", self.front),
            queue=times.get("queue", self.queue),
            ttft=times.get("ttft", self.ttft),
            itl=times.get("itl", self.itl),
            end=times.get("end", self.end),
        )


@dataclass(frozen=True)
class Course:
    """What one request will get: seconds of each phase, seconds between events, tokens, and the
    finish reason.
    """

    front: float
    queue: float
    ttft: float
    gaps: tuple[float, ...]
    end: float
    tokens: int
    reason: str


def course(behaviour: Behaviour, number: int, max_tokens: int) -> Course:
    """The course of a request, drawn only from the seed and the request's number."""
    rng = random.Random(f"{behaviour.seed}/{number}")
    ttft = behaviour.ttft.draw(rng)
    tokens = max(1, min(max_tokens, round(behaviour.tokens.draw(rng))))
    events = -(-tokens // behaviour.tokens_per_chunk)
    gaps = () if behaviour.lockstep else tuple(behaviour.itl.draw(rng) for _ in range(events - 1))
    front, queue, end = (
        each.draw(rng) for each in (behaviour.front, behaviour.queue, behaviour.end)
    )
    return Course(
        front, queue, ttft, gaps, end, tokens, "length" if tokens == max_tokens else "stop"
    )
