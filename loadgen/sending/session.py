"""Sends the turns of a session, each after the answer to the one before it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass

from foundation.run.records import RequestRecord
from loadgen.config import Stage
from loadgen.prompts.questions import Question
from loadgen.schedule.arrivals import SECOND
from loadgen.sending.traffic import PlannedRequest, Traffic


@dataclass(frozen=True)
class SessionRules:
    """What decides when a turn is sent: the pauses of `stage`, and what ends all sessions.

    No turn begins after `over_ns` (from the origin; None: no such end) or when `stop` is set.
    """

    stage: Stage
    over_ns: int | None
    stop: asyncio.Event

    def is_over(self, at_ns: int) -> bool:
        """Whether no turn may begin at `at_ns`, because the time is up."""
        return self.over_ns is not None and at_ns >= self.over_ns


def session(
    traffic: Traffic, first: PlannedRequest, numbers: Iterator[int], rules: SessionRules
) -> Coroutine[None, None, RequestRecord]:
    """Sends a request and then the turns after it. The coroutine returns the last record.

    A turn's history holds the server's real answers. A turn that fails ends its session. `numbers`:
    the numbers of the further turns.
    """
    # Called, not awaited: the request counts as in flight from here, before its task first runs.
    sending = traffic.send(first)
    return _continue(sending, traffic, first, numbers, rules) if first.question.then else sending


async def _continue(
    sending: Coroutine[None, None, RequestRecord],
    traffic: Traffic,
    first: PlannedRequest,
    numbers: Iterator[int],
    rules: SessionRules,
) -> RequestRecord:
    question = first.question
    while True:
        record = await sending
        turn = question.next_turn(record.text, _known_tokens(record))
        if turn is None or record.failure is not None:
            return record
        now_ns = traffic.now_ns()
        pause_s = _pause_s(rules.stage, turn, now_ns - first.scheduled_ns)
        due_ns = now_ns + round(pause_s * SECOND)
        if rules.is_over(due_ns):
            return record
        if due_ns > now_ns:
            with suppress(TimeoutError):
                await asyncio.wait_for(rules.stop.wait(), (due_ns - now_ns) / SECOND)
        now_ns = traffic.now_ns()
        if rules.stop.is_set() or rules.is_over(now_ns):
            return record
        question = turn
        sending = traffic.send(PlannedRequest(next(numbers), turn, now_ns, first.turn))


def _known_tokens(record: RequestRecord) -> int | None:
    """Tokens of the session that went through the server so far, None where nobody counted."""
    if record.input_tokens is None:
        return None
    return record.input_tokens + (record.output_tokens or 0)


def _pause_s(stage: Stage, turn: Question, since_ns: int) -> float:
    """Seconds until a turn is due, at `since_ns` after its session began.

    The speed of a replay applies to both of a turn's times.
    """
    if turn.at_s is None:
        return stage.pause(turn.delay_s)
    return max(0.0, stage.pause(turn.delay_s or 0.0), stage.pause(turn.at_s) - since_ns / SECOND)
