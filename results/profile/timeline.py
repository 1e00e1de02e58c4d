"""Divides a trace's time: each operator's own time, the host's time between operators, and idle.

Operators nest by their times on a thread; an operator's own time is its duration less its
children's. On an accelerator the kernels' times are divided, and what lies between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from foundation.errors import BadInput
from results.profile.groups import HOST, IDLE, SAMPLING, group_of, lora_sections
from results.profile.trace import Event, Trace

# vLLM 0.26 to 0.33 name a step after its requests and tokens; the second form is the detailed one.
_COUNTS = r"(\d+)\((?:sq)?(\d+)(?:sk(\d+)sqsq(\d+)sqsk(\d+))?\)"
_STEP = re.compile(rf"execute_(?:\d+_)?context_{_COUNTS}_generation_{_COUNTS}")


@dataclass(frozen=True)
class Tokens:
    """What a step computes in one phase.

    `lengths`: the sum of the sequences' lengths. `squares`: the sum of new tokens squared.
    `pairs`: the sum of new tokens times length. None where the trace does not say.
    """

    requests: int
    tokens: int
    lengths: int | None = None
    squares: int | None = None
    pairs: int | None = None


@dataclass(frozen=True)
class Step:
    """An engine step: its prompt tokens (`context`) and its generated ones (`generation`)."""

    context: Tokens
    generation: Tokens

    @property
    def tokens(self) -> int:
        """All its tokens."""
        return self.context.tokens + self.generation.tokens


@dataclass(frozen=True)
class Slice:
    """A part of the traced time, in µs. `operator` is empty between operators."""

    group: str
    operator: str
    own: float


@dataclass(frozen=True)
class Timeline:
    """The traced time in slices.

    `steps`: those that compute tokens; vLLM also has empty ones, which only drop ended requests.
    `elsewhere`: µs of operators on other threads, beside it.
    """

    steps: list[Step]
    slices: list[Slice]
    traced: float
    elsewhere: float


def step_of(name: str) -> Step | None:
    """The step that an annotation of vLLM names, or None for another annotation."""
    match = _STEP.fullmatch(name)
    if match is None:
        return None
    numbers = [None if text is None else int(text) for text in match.groups()]
    return Step(*(_tokens(numbers[at : at + 5]) for at in (0, 5)))


def _tokens(numbers: Sequence[int | None]) -> Tokens:
    requests, tokens, *sums = numbers
    assert requests is not None and tokens is not None
    return Tokens(requests, tokens, *sums)


def divide(trace: Trace) -> Timeline:
    """Divides the time of the thread that runs the steps, or of the accelerator.

    Raises BadInput for a trace without an engine step.
    """
    marks = [(event, step) for event in trace.host if (step := step_of(event.name))]
    thread = marks[0][0].thread if marks else ""
    steps = [step for event, step in marks if event.thread == thread and step.tokens]
    if not steps:
        raise BadInput("the trace holds no engine step; the server was idle while it was profiled")
    own = sorted(
        (event for event in trace.host if event.thread == thread),
        key=lambda event: (event.start, -event.end),
    )
    traced = trace.end - trace.start
    if trace.device:
        return Timeline(steps, _device_slices(trace, own), traced, 0.0)
    elsewhere = _covered([event for event in trace.host if event.thread != thread])
    return Timeline(steps, _host_slices(trace, own), traced, elsewhere)


def _host_slices(trace: Trace, events: Sequence[Event]) -> list[Slice]:
    """The own time of each operator of a thread, and the gaps between those at the top."""
    parents, own = _nested(events)
    lora = lora_sections([event.name for event in events], parents)
    groups: list[str] = []
    slices: list[Slice] = []
    cursor = trace.start
    for index, event in enumerate(events):
        parent, is_step = parents[index], step_of(event.name) is not None
        if parent is None:
            gap = max(0.0, event.start - cursor)
            slices.append(Slice(IDLE if is_step or not groups else HOST, "", gap))
            cursor = max(cursor, event.end)
        if is_step:
            groups.append(HOST)
        elif index in lora:
            groups.append("lora")
        elif parent is None:
            groups.append(SAMPLING)
        elif groups[parent] != HOST:
            groups.append(groups[parent])
        else:
            groups.append(group_of(event.name))
        slices.append(Slice(groups[index], "" if is_step else event.name, own[index]))
    slices.append(Slice(IDLE, "", trace.end - cursor))
    return slices


def _nested(events: Sequence[Event]) -> tuple[list[int | None], list[float]]:
    """The index of each event's parent, and each event's own time in µs.

    `events`: of one thread, by start, the longer first.
    """
    parents: list[int | None] = []
    own = [event.end - event.start for event in events]
    open_events: list[int] = []
    for index, event in enumerate(events):
        while open_events and events[open_events[-1]].end <= event.start:
            open_events.pop()
        parent = open_events[-1] if open_events else None
        parents.append(parent)
        if parent is not None:  # an event may outlast its parent by the clock's rounding
            own[parent] -= min(event.end, events[parent].end) - event.start
        open_events.append(index)
    return parents, [max(0.0, time) for time in own]


def _device_slices(trace: Trace, host: Sequence[Event]) -> list[Slice]:
    """The kernels' times, each instant once; between them the host works, or all is idle."""
    slices: list[Slice] = []
    cursor = trace.start
    gaps: list[tuple[float, float]] = []
    for event in sorted(trace.device, key=lambda event: event.start):
        if event.start > cursor:
            gaps.append((cursor, event.start))
            cursor = event.start
        slices.append(Slice(group_of(event.name), event.name, max(0.0, event.end - cursor)))
        cursor = max(cursor, event.end)
    gaps.append((cursor, trace.end))
    return slices + _gap_slices(gaps, host)


def _gap_slices(gaps: Sequence[tuple[float, float]], host: Sequence[Event]) -> list[Slice]:
    """The device's gaps, divided by whether an operator of the host's thread runs meanwhile."""
    busy = _merged(host)
    slices: list[Slice] = []
    at = 0
    for start, end in gaps:
        while at < len(busy) and busy[at][1] <= start:
            at += 1
        working, index = 0.0, at
        while index < len(busy) and busy[index][0] < end:
            working += min(end, busy[index][1]) - max(start, busy[index][0])
            index += 1
        slices += [Slice(HOST, "", working), Slice(IDLE, "", end - start - working)]
    return slices


def _merged(events: Sequence[Event]) -> list[tuple[float, float]]:
    """The intervals that events cover, in order."""
    merged: list[tuple[float, float]] = []
    for event in sorted(events, key=lambda event: event.start):
        if merged and event.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], event.end))
        else:
            merged.append((event.start, event.end))
    return merged


def _covered(events: Sequence[Event]) -> float:
    """The µs that events of all threads cover, each thread for itself."""
    threads: dict[str, list[Event]] = {}
    for event in events:
        threads.setdefault(event.thread, []).append(event)
    return sum(end - start for each in threads.values() for start, end in _merged(each))
