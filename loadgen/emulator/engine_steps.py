"""The steps of an emulated engine in time, as a function of when requests come to its queue.

It neither waits nor reads a clock, so a server in real time and one in virtual time share it.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from loadgen.emulator.planned_step import PlannedStep, ScheduledRequest, StepOutcome
from loadgen.emulator.plant import Plant, StepDurations
from loadgen.emulator.scheduler import ContinuousBatching


class TimedStep(NamedTuple):
    """A step, its number from 0, and when it begins and ends."""

    number: int
    planned: PlannedStep
    began_ns: int
    ended_ns: int


class EngineSteps:
    """An engine that begins its next step when the last is over and there is something to do."""

    def __init__(self, plant: Plant) -> None:
        self.scheduler = ContinuousBatching(plant.limits)
        self._durations = StepDurations(plant)
        self._coming: list[tuple[int, int, ScheduledRequest]] = []

    @property
    def next_ns(self) -> int | None:
        """When the next request comes to the queue; None if none is on its way."""
        return self._coming[0][0] if self._coming else None

    def enter(self, request: ScheduledRequest, queued_ns: int) -> None:
        """Takes a request that comes to the queue at `queued_ns`.

        Raises ValueError if it can never be served.
        """
        self.scheduler.limits.check(request.prompt_tokens, request.output_tokens)
        heappush(self._coming, (queued_ns, request.number, request))

    def drop(self, request: ScheduledRequest) -> None:
        """Ends a request early."""
        for place, (_, _, coming) in enumerate(self._coming):
            if coming is request:
                self._coming[place] = self._coming[-1]
                self._coming.pop()
                self._coming.sort()
                return
        self.scheduler.drop(request)

    def waiting(self, at_ns: int) -> int:
        """Requests in the queue."""
        queued = sum(queued_ns <= at_ns for queued_ns, _, _ in self._coming)
        return len(self.scheduler.waiting) + queued

    def begin(self, at_ns: int) -> TimedStep | None:
        """The step that begins at `at_ns`, with what is in the queue by then; None if nothing is.

        `end` must follow a step before the next begins.
        """
        scheduler, coming = self.scheduler, self._coming
        while coming and coming[0][0] <= at_ns:
            scheduler.waiting.append(heappop(coming)[2])
        planned = scheduler.plan()
        if planned is None:
            return None
        ended_ns = at_ns + self._durations.next_ns(planned, at_ns)
        return TimedStep(scheduler.steps, planned, at_ns, ended_ns)

    def end(self) -> StepOutcome:
        """What the step that began last made."""
        return self.scheduler.end_step()
