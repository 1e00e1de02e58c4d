"""Which deadline is missed when, as arithmetic, and that none is noticed long after its time."""

from __future__ import annotations

import pytest

from loadgen.config import Deadlines
from loadgen.prompts.questions import Question
from loadgen.protocol.reply import Reply
from loadgen.sending.deadlines import overdue
from tests.loadgen.conftest import RunBlock, StartEmulator

S = 1_000_000_000
DEADLINES = Deadlines.model_validate(
    {"connect": "1s", "first": "10s", "stall": "3s", "total": "30s"}
)


class Exchange:
    def __init__(self, connected: bool) -> None:
        self.started_ns = 100 * S
        self.connected = connected


@pytest.mark.parametrize(
    ("connected", "contents", "now", "expected"),
    [
        (False, [], 100.5, (None, 101)),
        (False, [], 101, ("timeout_connect", 101)),
        (True, [], 101, (None, 110)),
        (True, [], 110, ("timeout_first", 110)),
        (True, [105], 107, (None, 108)),
        (True, [105], 108, ("timeout_stall", 108)),
        (True, [105, 112], 114, (None, 115)),
        (True, [105, 128], 129, (None, 130)),
        (True, [105, 128], 130, ("timeout_total", 130)),
    ],
)
def test_overdue(
    connected: bool, contents: list[int], now: float, expected: tuple[str | None, int]
) -> None:
    reply = Reply()
    reply.chunk_at_ns = [at * S for at in contents]
    failure, at_ns = overdue(Exchange(connected), reply, DEADLINES, int(now * S))  # type: ignore[arg-type]
    assert (failure, at_ns / S) == expected


@pytest.mark.parametrize(
    ("fault", "deadlines", "failure"),
    [
        ("stall", {"stall": "0.4s"}, "timeout_stall"),
        ("comments", {"stall": "0.4s"}, "timeout_stall"),
        ("silent", {"first": "0.4s"}, "timeout_first"),
    ],
)
def test_a_short_deadline_is_not_noticed_at_a_long_one_s_time(
    emulator: StartEmulator, block: RunBlock, fault: str, deadlines: dict[str, str], failure: str
) -> None:
    questions = [Question("q", [{"role": "user", "content": f"fault:{fault}"}])]
    long = {"connect": "60s", "first": "60s", "stall": "60s", "total": "60s"}
    journal = block(
        emulator().endpoint,
        {"concurrency": 1, "requests": 1},
        questions,
        deadlines={**long, **deadlines},
    )
    (record,) = journal.records
    assert record.failure == failure
    assert record.done_ns - record.scheduled_ns < 30 * S
