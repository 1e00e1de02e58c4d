"""Searches for the highest rate that each variant holds, with real probes, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, takewhile
from math import inf
from pathlib import Path

import numpy as np

from dyno.artifacts.stored import set_aside
from dyno.experiment.schema import Experiment
from dyno.pipeline.block_runner import BlockRunner
from dyno.pipeline.blocks import (
    even_arrivals,
    questions_in,
    replicas_of,
    styles_of,
    variants_named,
)
from dyno.pipeline.failures import put_aside, read_failures
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.probe_block import ProbeBlock
from foundation.errors import DynoError, SystemFailed
from foundation.format import rate_text
from foundation.progress import Progress
from foundation.run.journal import Journal, identity_in, read_journal
from foundation.run.layout import RunDirectory, search_stage
from loadgen.config import Stage
from results.capacity.search.bracket import bracket
from results.capacity.search.journal import read_probe, sent_requests
from results.capacity.search.limits import unloaded_over
from results.capacity.search.posterior import RateRange
from results.capacity.search.probe import RateProbe, ShareLimit
from results.capacity.search.record import VariantSearch, of_replicas, variant_search
from results.capacity.search.search import NextProbe, Search, SearchEffort, SearchOutcome
from results.metrics import label_of

_REFUSED = frozenset({"http_4xx", "connect", "tls", "malformed"})
ALONE = 10
"""Requests that are sent one at a time."""
WARM_UP = 0.1
"""The least share of a probe that warms up: its queue begins empty."""


@dataclass(frozen=True)
class SearchPlan:
    """What is searched."""

    limits: Sequence[ShareLimit]
    max_rate: float
    effort: SearchEffort

    def search(self, expected: RateRange | None) -> Search:
        """The search of one variant, whose capacity a model may expect in a range."""
        return Search.up_to(self.max_rate, self.limits, expected, self.effort)


@dataclass
class VariantSearches:
    """The searches of a run's variants, probe by probe in turns.

    `modelled`: asks the engine models, once the run has some, where they expect the capacities.
    They only guide the search: its interval rests on probes. `outcomes`: of the variants that are
    done. `unfinished`: why the search of a variant can't go on.
    """

    plan: SearchPlan
    out: RunDirectory
    progress: Progress
    modelled: Callable[[], Mapping[str, RateRange]]
    outcomes: dict[str, VariantSearch] = field(default_factory=dict)
    unfinished: dict[str, DynoError] = field(default_factory=dict)
    _probes: dict[str, dict[str, RateProbe]] = field(default_factory=dict)
    _expected: Mapping[str, RateRange] = field(default_factory=dict)

    def is_whole(self, prepared: Prepared, names: Sequence[str]) -> bool:
        """Whether the journals of these variants hold their outcome."""
        self._expected = self.modelled()
        for name in names:
            self._step(prepared, name)
        return all(name in self.outcomes for name in names)

    async def load(self, prepared: Prepared, names: Sequence[str], runner: BlockRunner) -> None:
        """Measures a probe of each variant in turn, until every search has its outcome."""
        self._expected = await asyncio.to_thread(self.modelled)
        for name in names:
            if (expected := self._expected.get(name)) is not None:
                high = "or more" if expected.high == inf else f"to {rate_text(expected.high)}"
                self.progress.log(
                    f"{name}: by its engine model it holds {rate_text(expected.low)} {high} "
                    "requests/s; the search begins there"
                )
            await self._measure_alone(prepared, name, runner)
        while left := [n for n in names if n not in self.outcomes.keys() | self.unfinished]:
            for name in left:
                if isinstance(step := self._step(prepared, name), NextProbe):
                    await self._measure(prepared, name, step, runner)

    def _step(self, prepared: Prepared, name: str) -> NextProbe | SearchOutcome:
        """What follows from the probes of a variant; keeps its outcome."""
        probes, prior = self._stored(prepared, name), self._expected.get(name)
        step = self._unloaded(prepared, name) or self.plan.search(prior).after(
            list(probes.values())
        )
        if isinstance(step, SearchOutcome) and name not in self.outcomes:
            record = variant_search(
                name, _identity(prepared, name), step, probes, self.plan.limits, prior
            )
            self.outcomes[name] = of_replicas(record, replicas_of(prepared, name))
            self.progress.log(f"{name}: {step.sentence}")
        return step

    async def _measure_alone(self, prepared: Prepared, name: str, runner: BlockRunner) -> None:
        """Sends one request at a time where the warm-up was over a limit in every request."""
        warm_up = read_journal(self.out.warm_up(name))
        if not isinstance(warm_up, Journal) or self._stored(prepared, name):
            return
        if unloaded_over(self.plan.limits, warm_up.requests) is not None:
            alone = {"name": "alone", "concurrency": 1, "requests": ALONE, "warmup": "0s"}
            block = _block(prepared, self.out, name, Stage.model_validate(alone), None)
            block = replace(block, journal=self.out.lone_requests(name))
            await runner.run([block], f"{name}, one request at a time")

    def _unloaded(self, prepared: Prepared, name: str) -> SearchOutcome | None:
        """The outcome where not even lone requests keep the SLO: no number of replicas does."""
        journal = read_journal(self.out.lone_requests(name))
        if not isinstance(journal, Journal) or journal.header.identity != _identity(prepared, name):
            return None
        if (why := unloaded_over(self.plan.limits, journal.requests)) is None:
            return None
        slo = ", ".join(f"{limit.metric} {limit.text}" for limit in self.plan.limits)
        return SearchOutcome(None, None, True, f"no rate holds: {why}, over the SLO ({slo})")

    async def _measure(
        self, prepared: Prepared, name: str, step: NextProbe, runner: BlockRunner
    ) -> None:
        """Measures a probe; to its end, if stopping it early showed nothing."""
        probes = self._probes[name]
        stage = probe_stage(prepared.experiment, len(probes) + 1, step)
        for idle_s in (_idle_s(self.out, name), None):
            block = _block(prepared, self.out, name, stage, idle_s)
            await runner.run([block], f"{name}, {step.purpose} at {rate_text(step.rate)}/s")
            try:
                if name in runner.hosting.failed:
                    raise runner.hosting.failed[name]
                probe = _read(block.journal, self.plan.limits)
            except DynoError as problem:
                put_aside(block.journal)
                self.unfinished[name] = problem
                self.progress.log(f"{name}: the search ends here: {problem}")
                return
            if probe is not None:
                break
        else:
            raise SystemFailed(f"{name}: {stage.label} left no whole journal; see {block.journal}")
        probes[stage.label] = probe
        self.progress.log(f"{name}: {probe_words(probe, list(probes.values()), self.plan.limits)}")

    def records(self, prepared: Prepared) -> list[VariantSearch]:
        """The outcome of each variant; of one whose server failed, what its probes showed so far.

        A server that did not even start has its reason in `failures.json`.
        """
        names = [variant.name for variant in prepared.experiment.variants]
        for name, reason in read_failures(self.out, ()).items():
            if name in names and name not in self.outcomes:
                self.unfinished.setdefault(name, SystemFailed(reason))
        return [
            self.outcomes.get(name) or self._so_far(prepared, name)
            for name in names
            if name in self.outcomes.keys() | self.unfinished
        ]

    def _so_far(self, prepared: Prepared, name: str) -> VariantSearch:
        """The interval of a search that can't go on."""
        prior, identity = self._expected.get(name), _identity(prepared, name)
        probes = self._stored(prepared, name)
        why = str(self.unfinished[name])
        outcome = self.plan.search(prior).cut_short(list(probes.values()), why)
        record = variant_search(name, identity, outcome, probes, self.plan.limits, prior)
        return of_replicas(record, replicas_of(prepared, name))

    def _stored(self, prepared: Prepared, name: str) -> dict[str, RateProbe]:
        """The probes of a variant so far."""
        if name not in self._probes:
            identity = _identity(prepared, name)
            self._probes[name] = stored_probes(self.out, name, identity, self.plan.limits)
        return self._probes[name]


def stored_probes(
    out: RunDirectory, variant: str, identity: str, limits: Sequence[ShareLimit]
) -> dict[str, RateProbe]:
    """The probes of an earlier try, by stage. Sets aside journals that are not of `identity`.

    The first that is missing or shows nothing ends them: what followed it rested on it.
    """
    probes: dict[str, RateProbe] = {}
    files = (out.journal(variant, search_stage(number), 1) for number in count(1))
    for file in takewhile(Path.exists, files):
        if identity_in(file) != identity:
            set_aside(out, file)
            continue
        try:
            probe = _read(file, limits)
        except DynoError:  # a probe in its place says it again, if it is still so
            probe = None
        if probe is None:
            put_aside(file)
            continue
        if len(probes) + 1 == int(file.parent.name.rpartition("-")[2]):
            probes[file.parent.name] = probe
        else:
            set_aside(out, file)
    return probes


def probe_stage(experiment: Experiment, number: int, step: NextProbe) -> Stage:
    """The load of a probe: arrivals as in the experiment's first stage with a rate of its own."""
    warmup = max(experiment.workload.warmup, WARM_UP * step.requests / step.rate)
    return Stage.model_validate(
        {
            "name": search_stage(number),
            "rate": step.rate,
            "requests": step.requests,
            "warmup": f"{warmup:g}s",
            **even_arrivals(experiment.workload),
        }
    )


def probe_words(probe: RateProbe, probes: Sequence[RateProbe], limits: Sequence[ShareLimit]) -> str:
    """What a probe saw, and the interval after it."""
    ends = bracket([each for each in probes if each.doubt is None], limits)
    seen = ", ".join(
        f"{share.over:,} of {share.requests:,} requests over {label_of(limit.metric)} {limit.text}"
        for limit in limits
        if (share := probe.shares[limit.metric]).requests
    )
    why = probe.doubt or probe.overloaded
    known = [f"{rate_text(ends.holds.rate)} holds"] if ends.holds.rate else []
    known += [f"{rate_text(ends.fails.rate)} fails"] if ends.fails.rate < inf else []
    so_far = " and ".join(known) or "no rate is shown to hold or to fail"
    return f"{rate_text(probe.rate)} requests/s: {seen}{f'; {why}' if why else ''}; so far {so_far}"


def _identity(prepared: Prepared, name: str) -> str:
    [variant] = variants_named(prepared, [name]).values()
    return prepared.graph.search(variant).identity


def _block(
    prepared: Prepared, out: RunDirectory, name: str, stage: Stage, idle_s: float | None
) -> ProbeBlock:
    style = styles_of(prepared)[name]
    return ProbeBlock(
        variant=name,
        style=style,
        stage=stage,
        block=1,
        questions=questions_in(prepared.prompts, "eval", style),
        workload=prepared.experiment.workload_of(variants_named(prepared, [name])[name]),
        journal=out.journal(name, stage.label, 1),
        identity=_identity(prepared, name),
        idle_s=idle_s,
    )


def _read(file: Path, limits: Sequence[ShareLimit]) -> RateProbe | None:
    """The probe in a journal, None without one.

    Raises SystemFailed if the server refused all requests, BadInput if no answer has what the SLO
    limits.
    """
    journal = read_journal(file)
    if not isinstance(journal, Journal):
        return None
    requests = sent_requests(journal)
    classes = set(requests.failure)
    if len(requests) and classes <= _REFUSED:
        example = next(error for error in requests.error if error is not None)
        raise SystemFailed(
            f"all {len(requests)} requests of a probe failed "
            f"({', '.join(sorted(filter(None, classes)))}): {example}"
        )
    return read_probe(journal, limits)


def _idle_s(out: RunDirectory, variant: str) -> float | None:
    """The longest latency of the variant's warm-up, s; None without an answer in it."""
    journal = read_journal(out.warm_up(variant))
    if not isinstance(journal, Journal) or not journal.requests.ok.any():
        return None
    return float(np.nanmax(journal.requests.in_flight[journal.requests.ok])) / 1e3
