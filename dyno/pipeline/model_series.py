"""The loads of one variant that measure its step times: those that are done, and the next one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path

import numpy as np

from dyno.pipeline.blocks import LoadBlock, variants_named
from dyno.pipeline.failures import put_aside
from dyno.pipeline.model_prompts import (
    load_block,
    longest_request,
    shortest_prompt,
    with_correction,
)
from dyno.pipeline.prepared import Prepared
from foundation.format import duration
from foundation.run.journal import Journal, is_whole, journal_files, read_journal
from foundation.run.layout import RunDirectory
from results.capacity.model.design import LARGEST_PART, Design
from results.capacity.model.engine_model import EngineModel, StepTime
from results.capacity.model.loads import (
    UNLIMITED_IN_FLIGHT,
    ModelLoad,
    candidate_loads,
    labelled,
)
from results.capacity.model.models_of_run import model_of_loads
from results.capacity.model.record import VariantModel, model_record
from results.capacity.model.words import so_far

_FIRST_PROMPT = 64
_FIRST_LOADS = (ModelLoad(1, _FIRST_PROMPT, 8, 32), ModelLoad(8, _FIRST_PROMPT, 32, 2))
"""A first guess: requests that come to an engine at rest, and a few at once."""
_LIMIT_ANSWER = 64
_LEAST_FIXED = 0.1
"""Of a step: a step without work takes at least so much in a guess, so that it is no division by
zero."""
_SHORTEST_STEP_S = 1e-6


@dataclass
class LoadSeries:
    """The loads of the variant `name` within `budget_s`. Whole journals of an earlier try count.

    `loads`: those that are done. `spent_s`: the time they took. `model`: the present fit, or why
    there is none.
    """

    prepared: Prepared
    name: str
    out: RunDirectory
    budget_s: float
    loads: list[ModelLoad] = field(default_factory=list)
    spent_s: float = 0.0
    model: EngineModel | str = "nothing is measured yet"
    _answered: list[ModelLoad] = field(default_factory=list)
    _silent: str = ""
    _too_long: float = inf
    _too_many: float = inf

    def __post_init__(self) -> None:
        variant = variants_named(self.prepared, [self.name])[self.name]
        self.identity = self.prepared.graph.model_loads(variant).identity
        self._context = longest_request(self.prepared, self.name)
        self._shortest = shortest_prompt(self.prepared, self.name)
        while is_whole(self._file(len(self.loads) + 1), self.identity):
            self._take()
        if self.loads:
            self._fit()

    def put_stale_aside(self) -> None:
        """Renames journals of what the variant was before, so that no model is fitted to them."""
        for file in journal_files(self._file(1).parent)[len(self.loads) :]:
            put_aside(file)

    def next_block(self) -> LoadBlock | None:
        """The next load; None where no other fits into the time."""
        if (load := self._next_load()) is None:
            return None
        return load_block(self.prepared, self.name, len(self.loads) + 1, load, self.out)

    def learn(self) -> None:
        """Takes the load that was just measured into account."""
        self._take()
        self._fit()

    def sentence(self) -> str:
        """What is known after the last load, in one line."""
        load, left_s = self.loads[-1], max(0.0, self.budget_s - self.spent_s)
        known = model_record(self.model, self.identity, self.loads, self.spent_s)
        return (
            f"{self.name}: after load {len(self.loads)} ({load.in_flight} in flight, prompts of "
            f"{load.input_tokens} tokens): {so_far(known)}; at most {duration(left_s)} left"
        )

    def record(self) -> VariantModel:
        """The model as it is known now."""
        model = self._silent or self.model
        if len(self.loads) <= len(_FIRST_LOADS) and not isinstance(model, str):
            model = self._why_no_further_load(model)
        return model_record(model, self.identity, self.loads, self.spent_s)

    def _why_no_further_load(self, model: EngineModel) -> str:
        if not self._candidates(model):
            return f"no load fits requests of at most {self._context} tokens"
        least_s = duration(self._design(model).shortest_s)
        return (
            f"{duration(self.budget_s)} are too short: its first loads took "
            f"{duration(self.spent_s)}, and the shortest other one takes {least_s}"
        )

    def _file(self, number: int) -> Path:
        return self.out.model_load(self.name, number)

    def _take(self) -> None:
        """Counts the next load, whose journal is there."""
        number = len(self.loads) + 1
        journal = read_journal(self._file(number))
        assert isinstance(journal, Journal)
        self.spent_s += journal.end.ended_ns / 1e9 if journal.end else 0.0
        load = labelled(journal.header.stage, journal.header.planned or 0)
        self.loads.append(load)
        if not journal.requests.ok.any():
            self._note_silence(journal, load)
            return
        self._answered.append(load)
        if number == 1:
            self.prepared = with_correction(self.prepared, self.name, self._file(1), load)
            self._shortest = shortest_prompt(self.prepared, self.name)

    def _fit(self) -> None:
        """Fits the model to all loads. A load that shows no steps is tried no more."""
        self.model = model_of_loads(self.out.path, self.name)
        in_flight = self.loads[-1].in_flight
        if isinstance(self.model, EngineModel) and self.model.fitted.decodes < in_flight / 2:
            self._too_many = min(self._too_many, in_flight)

    def _next_load(self) -> ModelLoad | None:
        first = self._first_loads()
        if self._silent:
            return None
        if len(self.loads) < len(first):
            return first[len(self.loads)]
        if isinstance(self.model, str):
            return None
        design, left_s = self._design(self.model), self.budget_s - self.spent_s
        return self._limit_load(design, left_s) or design.next_load(self._answered, left_s)

    def _limit_load(self, design: Design, left_s: float) -> ModelLoad | None:
        """A load of many short requests, which shows the limit of a server that does not say it."""
        load = ModelLoad(UNLIMITED_IN_FLIGHT, self._shortest, _LIMIT_ANSWER)
        is_needed = design.scheduler.max_num_seqs is None and load not in self.loads
        return load if is_needed and design.seconds(load) <= left_s * LARGEST_PART else None

    def _design(self, model: EngineModel) -> Design:
        return Design(self._candidates(model), _guess(model.steps), model.scheduler)

    def _first_loads(self) -> list[ModelLoad]:
        """The first loads, with prompts as long as they must be."""
        prompt = max(_FIRST_PROMPT, self._shortest)
        return [replace(load, input_tokens=prompt) for load in _FIRST_LOADS]

    def _candidates(self, model: EngineModel) -> list[ModelLoad]:
        loads = candidate_loads(model.scheduler, self._context, self._shortest)
        return [
            load
            for load in loads
            if load.context < self._too_long and load.in_flight < self._too_many
        ]

    def _note_silence(self, journal: Journal, load: ModelLoad) -> None:
        """After the first loads, a server that answers nothing has got too long a request."""
        requests = journal.requests
        why = next((each for each in requests.error if each), None) or requests.failure[0]
        if len(self.loads) <= len(_FIRST_LOADS):
            self._silent = f"its server answered none of the first requests: {why}"
        self._too_long = min(self._too_long, load.context)


def _guess(times: StepTime) -> StepTime:
    """A step time that is above zero for each step."""
    short = float(times.seconds(np.array([[1.0, 1.0, 0.0, _FIRST_PROMPT, 0.0]]))[0])
    return replace(times, fixed=max(times.fixed, _LEAST_FIXED * short, _SHORTEST_STEP_S))
