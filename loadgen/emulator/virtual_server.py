"""An emulated engine in virtual time: the same scheduler and step times, and nobody waits.

    server = VirtualServer(Plant(StepCost(fixed=0.008, decode=50e-6)))
    served = server.open_loop(VirtualLoad.of([0.0, 0.1], [100, 100], [20, 20]))
    served.ttft, served.steps.decodes

`virtual_run` writes what was served as the files of a run.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Callable

import numpy as np

from foundation.arrays import Floats, Ints
from loadgen.emulator.block_keys import keys_of_prefix
from loadgen.emulator.engine_steps import EngineSteps, TimedStep
from loadgen.emulator.planned_step import ScheduledRequest, StepOutcome
from loadgen.emulator.plant import Plant
from loadgen.emulator.virtual_load import NONE, AskedLoad, ServedLoad, StepTable

OnFinished = Callable[[int], None]
"""Called for each finished request with the time when the client has its last token, ns."""


class VirtualServer:
    """A server that serves one load after another. Its clock and its prefix cache go on.

    A load begins when the one before it is over.
    """

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.now_ns = 0
        self._steps = EngineSteps(plant)
        self._rng = random.Random(f"{plant.seed}/front")
        self._requests = 0

    def open_loop(self, load: AskedLoad) -> ServedLoad:
        """Serves a load whose requests arrive at their times.

        Raises ValueError for a request that can never be served.
        """
        log = self._log(load)
        for place, at_s in enumerate(load.arrival.tolist()):
            self._enter(log, place, self.now_ns + round(at_s * 1e9))
        self._serve(log, None)
        return log.served(self.plant)

    def closed_loop(self, load: AskedLoad, concurrency: int) -> ServedLoad:
        """Serves a load of which `concurrency` requests are in flight; arrivals do not matter.

        The next request is sent when the client has the last token of one. Raises ValueError for a
        request that can never be served.
        """
        log, to_send = self._log(load), deque(range(len(load.arrival)))

        def send_next(at_ns: int) -> None:
            if to_send:
                self._enter(log, to_send.popleft(), at_ns)

        for _ in range(concurrency):
            send_next(self.now_ns)
        self._serve(log, send_next)
        return log.served(self.plant)

    def _log(self, load: AskedLoad) -> LoadLog:
        first, self._requests = self._requests, self._requests + len(load.arrival)
        return LoadLog(load, self.now_ns, first)

    def _enter(self, log: LoadLog, place: int, arrived_ns: int) -> None:
        load, plant, number = log.load, self.plant, log.first_number + place
        prompt_tokens, adapter = int(load.input_tokens[place]), int(load.adapter[place])
        keys = None
        if plant.limits.prefix_caching:
            prefix = int(load.prefix[place])
            shared = int(load.prefix_tokens[place]) if prefix != NONE else 0
            keys = keys_of_prefix((adapter, prefix), shared, number, plant.limits.block_size)
        front_s = plant.front.draw(self._rng) + plant.front_per_token * prompt_tokens
        queued_ns = arrived_ns + round(front_s * 1e9)
        request = ScheduledRequest(
            number,
            prompt_tokens,
            int(load.output_tokens[place]),
            keys,
            None if adapter == NONE else adapter,
        )
        self._steps.enter(request, queued_ns)
        log.enter(request, place, arrived_ns, queued_ns)

    def _serve(self, log: LoadLog, on_finished: OnFinished | None) -> None:
        """Goes from step to step, and over times without work to the next request."""
        steps, after_ns, now_ns = self._steps, round(self.plant.after * 1e9), self.now_ns
        while True:
            step = steps.begin(now_ns)
            if step is None:
                if steps.next_ns is None:
                    break
                now_ns = steps.next_ns
                continue
            outcome = steps.end()
            log.count(step, steps.scheduler.running, len(steps.scheduler.waiting))
            now_ns = step.ended_ns
            if outcome.begun:
                log.count_begun(outcome)
            if on_finished is not None:
                for _ in outcome.finished:
                    on_finished(now_ns + after_ns)
        self.now_ns = now_ns + after_ns


class LoadLog:
    """What happened to a load, as it happens."""

    def __init__(self, load: AskedLoad, origin_ns: int, first_number: int) -> None:
        n = len(load.arrival)
        self.load, self.first_number = load, first_number
        self._origin_ns = origin_ns
        self._requests: list[ScheduledRequest | None] = [None] * n
        self._arrived_ns, self._queued_ns = [0] * n, [0] * n
        self._scheduled_ns: list[int | None] = [None] * n
        # A request's tokens come from steps in a row, until a preemption: place, step, token.
        self._begun = array("q")
        self._rows: list[tuple[float, ...]] = []

    def enter(self, request: ScheduledRequest, place: int, arrived_ns: int, queued_ns: int) -> None:
        """Takes a request that the server has."""
        self._requests[place] = request
        self._arrived_ns[place], self._queued_ns[place] = arrived_ns, queued_ns

    def count(self, step: TimedStep, running: int, waiting: int) -> None:
        """Takes a step that is over, and the requests after it."""
        _, planned, began_ns, ended_ns = step
        decodes, kv_tokens, pieces, _ = planned
        if not pieces:
            self._rows.append((began_ns, ended_ns, decodes, kv_tokens, 0, 0, 0, running, waiting))
            return
        tokens, pairs = planned.prefill_tokens, planned.pairs
        self._rows.append(
            (began_ns, ended_ns, decodes, kv_tokens, len(pieces), tokens, pairs, running, waiting)
        )
        for piece in pieces:
            place = piece.request.number - self.first_number
            if self._scheduled_ns[place] is None:
                self._scheduled_ns[place] = began_ns

    def count_begun(self, outcome: StepOutcome) -> None:
        """Takes the requests that have a token from the last step's prompts."""
        step = len(self._rows) - 1
        for request in outcome.begun:
            self._begun.extend((request.number - self.first_number, step, request.generated - 1))

    def served(self, plant: Plant) -> ServedLoad:
        """All of it, when every request is over."""
        table = np.array(self._rows, np.float64).reshape(-1, 9)
        requests = [each for each in self._requests if each is not None]
        tokens = np.array([each.output_tokens for each in requests], np.int64)
        token_start = np.concatenate([[0], np.cumsum(tokens)])
        steps = self._steps(table)
        return ServedLoad(
            load=self.load,
            origin_ns=self._origin_ns,
            after_ns=round(plant.after * 1e9),
            number=_whole([each.number for each in requests]),
            arrival_ns=_whole(self._arrived_ns) - self._origin_ns,
            queued_ns=_whole(self._queued_ns) - self._origin_ns,
            scheduled_ns=_whole([at for at in self._scheduled_ns if at is not None])
            - self._origin_ns,
            computed_ns=steps.ended_ns[self._token_steps(token_start)],
            token_start=token_start,
            cached_tokens=_whole([each.cached_tokens for each in requests]),
            computed_tokens=_whole([each.computed_tokens for each in requests]),
            preemptions=_whole([each.preemptions for each in requests]),
            steps=steps,
        )

    def _steps(self, table: Floats) -> StepTable:
        columns = [_whole(column) for column in table.T]
        began_ns, ended_ns = (column - self._origin_ns for column in columns[:2])
        decodes, kv_tokens, prompts, prefill_tokens, _, running, waiting = columns[2:]
        pairs = table[:, 6]
        return StepTable(
            began_ns, ended_ns, decodes, kv_tokens, prompts, prefill_tokens, pairs, running, waiting
        )

    def _token_steps(self, token_start: Ints) -> Ints:
        """The place of the step that made each token (t,)."""
        place, step, token = np.array(self._begun, np.int64).reshape(-1, 3).T
        flat = token_start[place] + token
        order = np.argsort(flat)
        flat, step = flat[order], step[order]
        lengths = np.diff(np.append(flat, token_start[-1]))
        return np.asarray(np.repeat(step - flat, lengths) + np.arange(token_start[-1]))


def _whole(numbers: list[int] | Floats) -> Ints:
    return np.asarray(numbers, np.int64)
