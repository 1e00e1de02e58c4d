"""Serve and load: every block of every stage, the variants in turn, one journal each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyno.artifacts.resume import keep_prompts
from dyno.artifacts.stored import is_done, mark
from dyno.estimates.timeline import BlockTimes, Timeline
from dyno.experiment.schema import VariantConfig
from dyno.pipeline import prompt_lengths, relative_rates
from dyno.pipeline.environment import note_requests
from dyno.pipeline.failures import ends_in_silence, fail, forget_failures, put_aside, put_aside_last
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.stopping import Stopping, handled
from foundation.format import duration
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress, Silent
from foundation.run.journal import Journal, is_whole, read_journal
from foundation.run.layout import RunDirectory
from foundation.run.records import Prompt
from loadgen import (
    BlockPlan,
    Question,
    interleave,
    pick_questions,
    planned_requests,
    questions_of,
    reach,
    run_block,
    run_mix,
)  # fmt: skip
from loadgen.config import Stage, WorkloadConfig
from loadgen.schedule.arrivals import ALONE, Place
from results.comparison.resolution import Planned
from results.config import Probe
from serve import Hosting, ServePlan, ServerFailed, TakenOver

PROBE_CONCURRENCY = 4
WARM_UP_CONCURRENCY, WARM_UP_REQUESTS = 4, 8


class Interrupted(Exception):
    """Ctrl-C: the block under way was drained and its journal ended."""


async def measure(
    prepared: Prepared,
    plan: ServePlan,
    out: RunDirectory,
    progress: Progress,
    timeline: Timeline,
    settled: Callable[[], bool],
    plan_blocks: Callable[[], Planned],
) -> BlockTimes:
    """Write every journal that is not whole yet; where the experiment says `until_decided`, go on until `settled`.

    Where it names a `resolution`, `plan_blocks` says after the pilot how many blocks to run. Returns how long the blocks took.
    A server that does not start, dies or hangs is the failure of its variants alone: `failures.json` names them, and the
    others are measured to the end. It is not started again, since a server that dies is a finding.
    Raises SystemFailed where nothing could be measured, Interrupted after Ctrl-C.
    """
    times = BlockTimes()
    stop = Stopping(progress.log)
    began = time.monotonic()
    failed: dict[str, ServerFailed] = {}
    until, resolution = prepared.experiment.until_decided, prepared.experiment.resolution
    try:
        answers = partial(reach, workload=prepared.experiment.workload, log=progress.log)
        patience = prepared.experiment.workload.deadlines.first
        hosting = Hosting(
            plan, prepared.experiment.serve, out.logs, progress, answers, out.telemetry, patience
        )
        for names in plan.rounds:
            if not _blocks(prepared, names, out) and until is None and resolution is None:
                forget_failures(out, names)
                continue
            servers = [
                server for server in plan.servers if any(v.name in names for v in server.variants)
            ]
            part = 1 / len(plan.rounds)
            async with AsyncExitStack() as stack:
                stack.enter_context(handled(stop.actions))
                largest = max((server.memory.weights for server in servers), default=0)
                with timeline.doing("server", len(servers), largest, part):
                    try:
                        endpoints = await stack.enter_async_context(
                            hosting.round(names, partly=True)
                        )
                    except ServerFailed:  # there is nobody else in this round
                        failed |= hosting.failed
                        fail(out, hosting.failed, progress)
                        continue
                fail(out, hosting.failed, progress)
                note_requests(
                    out.environment, {name: endpoint.notes for name, endpoint in endpoints.items()}
                )
                load = _Load(hosting, endpoints, progress, stop, times, out)
                prepared = await _warmed_up(prepared, list(endpoints), out, load)
                prepared = await _at_measured_rates(prepared, names, out, load)
                planned = prepared.experiment.workload.blocks
                if resolution:
                    await load.run(
                        _stage_blocks(prepared, names, out, _judged(prepared), resolution.pilot),
                        "the pilot",
                    )
                    found = plan_blocks()
                    planned = found.blocks
                    for sentence in (*found.sentences, f"so there will be {planned} blocks"):
                        progress.log(sentence)
                everything = _blocks(prepared, names, out, planned)
                with timeline.doing("load", part=part):
                    await load.run(
                        everything, "all variants" if len(plan.rounds) == 1 else ", ".join(names)
                    )
                for count in (
                    until.block_counts(prepared.experiment.workload.blocks) if until else ()
                ):
                    if until is None or settled() or time.monotonic() - began > until.max_time:
                        break
                    await load.run(
                        _stage_blocks(prepared, names, out, _judged(prepared), count),
                        f"until decided, {count} blocks",
                    )
                failed |= hosting.failed
                forget_failures(out, [name for name in names if name not in failed])
        if failed and not any(out.path.glob("load/*/*/block-*.jsonl")):
            raise next(iter(failed.values()))
    except asyncio.CancelledError:
        raise Interrupted from None
    return times


async def _warmed_up(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, load: _Load
) -> Prepared:
    """Ask every variant a few questions, and make prompts of their own for those whose server counts tokens otherwise."""
    await load.run(_warm_up(prepared, names, out), "to warm up")
    for _ in range(prompt_lengths.ROUNDS):
        found = {
            name: each
            for name in names
            if (each := prompt_lengths.correction(prepared, name, out.warm_up(name)))
        }
        if not found:
            break
        prepared = prompt_lengths.reworded(prepared, found, load.progress)
        keep_prompts(prepared, out)
        await load.run(_warm_up(prepared, list(found), out), "to check the lengths of prompts")
    return prepared


async def _at_measured_rates(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, load: _Load
) -> Prepared:
    """Replace relative rates by what the variants that they refer to hold. All of these are up in the first round."""
    experiment = prepared.experiment
    if not (variants := relative_rates.unmeasured(experiment)):
        return prepared
    artifact = prepared.graph.rates
    measured = (
        relative_rates.read_rates(out.rates, experiment) if is_done(out.rates, artifact) else None
    )
    if measured is None:
        held = {name: await _most_held(prepared, name, out, load) for name in variants}
        measured = relative_rates.measured_from(held, experiment)
        relative_rates.write_rates(measured, out.rates)
        mark(out.rates, artifact)
    for label, rate in measured.items():
        load.progress.log(f"{label}: {rate.sentence}")
    return replace(prepared, experiment=relative_rates.at_rates(experiment, measured))


async def _most_held(
    prepared: Prepared, name: str, out: RunDirectory, load: _Load
) -> relative_rates.Held:
    """The highest throughput of a variant in short closed loops. Raises SystemFailed where it answers too little."""
    style = _styles(prepared)[name]
    questions = _questions(prepared.prompts, "eval", style)
    workload = prepared.experiment.workload
    identity = prepared.graph.loops(_variants(prepared, [name])[name]).identity
    loops: list[relative_rates.Held] = []
    while (concurrency := relative_rates.goes_on(loops, workload.max_in_flight)) is not None:
        requests = relative_rates.WAVES * concurrency
        stage = Stage.model_validate(
            {"name": "rate", "concurrency": concurrency, "requests": requests, "warmup": "0s"}
        )
        journal = out.closed_loop(name, concurrency)
        block = _Block(name, style, stage, 1, questions, workload, journal, identity=identity)
        await load.run([block], f"{name}, {concurrency} in flight")
        if name in load.hosting.failed:
            raise load.hosting.failed[name]
        try:
            held = relative_rates.throughput(_ends(journal), concurrency)
            loops.append(relative_rates.Held(requests_per_s=held, concurrency=concurrency))
        except ValueError as error:
            if not loops:
                raise relative_rates.failed(name, f"{error}; see {journal}") from None
            break
    return relative_rates.highest(loops)


def _ends(journal: Path) -> NDArray[np.float64]:
    """When the requests that succeeded ended, ns from the journal's origin."""
    read = read_journal(journal)
    if not isinstance(read, Journal):
        return np.empty(0)
    ends: NDArray[np.float64] = read.requests.done_ns[read.requests.ok]
    return np.asarray(ends[~np.isnan(ends)])


def _judged(prepared: Prepared) -> Stage:
    return next(
        s
        for s in prepared.experiment.workload.stages
        if s.label == prepared.experiment.judged_stage
    )


@dataclass
class _Load:
    """Blocks against live endpoints, one at a time, each between two looks at what the servers say of themselves."""

    hosting: Hosting
    endpoints: Mapping[str, Endpoint]
    progress: Progress
    stop: Stopping
    times: BlockTimes
    out: RunDirectory

    async def run(self, blocks: Sequence[_Block | _Mixed], what: str) -> None:
        """Raises Interrupted once a block was drained. The blocks of variants whose server failed are passed over."""
        self.progress.stage(f"load {what}", sum(block.requests for block in blocks), "requests")
        for number, block in enumerate(blocks, start=1):
            shown = _BlockProgress(
                self.progress, block.requests, f"block {number}/{len(blocks)}: {block.variant}"
            )
            self.out.check_there()
            began = time.monotonic()
            measured = await self._measure(block, shown)
            shown.done()
            if self.stop.drain.is_set():
                raise Interrupted
            if measured:
                self.times.add(
                    block.variant, block.stage.label, time.monotonic() - began, block.requests
                )
            left = [
                (each.variant, each.stage.label)
                for each in blocks[number:]
                if each.without(self.hosting.failed)
            ]
            if left and (seconds := self.times.news_of(left)) is not None:
                self.progress.log(f"load: about {duration(seconds)} left")

    async def _measure(self, block: _Block | _Mixed, shown: Progress) -> bool:
        """Measure a block; those of a mix again, without the variants whose server failed in it. False where none is left."""
        while (of := block.without(self.hosting.failed)) is not None:
            try:
                await self._attempt(of, shown)
                return True
            except ServerFailed as failure:
                variants = await self.hosting.drop(failure)
                for variant in variants:
                    put_aside_last(self.out, variant)
                fail(
                    self.out,
                    dict.fromkeys(variants, failure),
                    self.progress,
                    f"block {of.block} of {of.stage.label}",
                )
        return False

    async def _attempt(self, block: _Block | _Mixed, shown: Progress) -> None:
        """Raises ServerFailed where a server of the block failed; a block that another process may have answered is put aside."""
        variants = list(block.journals)
        await self.hosting.ready(variants)
        await self.hosting.sample()
        with self.stop.in_block():
            await guarded(
                partial(self.hosting.watch, variants),
                block.run(self.endpoints, shown, self.stop.drain),
            )
        await self.hosting.sample()
        try:
            self.hosting.check(variants)
        except TakenOver:
            for journal in block.journals.values():
                put_aside(journal)
            raise
        for variant, journal in block.journals.items():
            if not self.stop.drain.is_set() and ends_in_silence(journal):
                await self.hosting.check_answers(self.endpoints[variant])


async def guarded(watch: Callable[[], Awaitable[None]], work: Awaitable[None]) -> None:
    """`work`, ended early by whatever `watch` raises."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(watch())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if watching.done() and not working.done():
            await watching
        await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


class _BlockProgress(Silent):
    """A block's part of the bar: never more than was planned (a closed loop's warm-up comes on top), all of it when done."""

    def __init__(self, progress: Progress, planned: int, name: str) -> None:
        self._progress, self._left, self._name = progress, planned, name

    def advance(self, amount: float = 1, note: str = "") -> None:
        counted = min(int(amount), self._left)
        self._left -= counted
        self._progress.advance(counted, f"{self._name}, {note}" if note else "")

    def done(self) -> None:
        self._progress.advance(self._left)
        self._left = 0


@dataclass
class _Block:
    """One journal to be written. `workload` is the experiment's, or changed for a probe."""

    variant: str
    style: str
    stage: Stage
    block: int
    questions: Sequence[Question]
    workload: WorkloadConfig
    journal: Path
    place: Place = ALONE
    tokenizer: Path | None = None
    identity: str = ""

    @property
    def journals(self) -> dict[str, Path]:
        """By variant."""
        return {self.variant: self.journal}

    def without(self, failed: Container[str]) -> _Block | None:
        return None if self.variant in failed else self

    @property
    def planned(self) -> int | None:
        return planned_requests(
            self.stage, self.workload.seed, self.block, self.workload.warmup, self.place
        )

    @property
    def requests(self) -> int:
        """Its part of the bar; a closed loop that goes by time counts as one."""
        return self.planned or 1

    async def run(
        self, endpoints: Mapping[str, Endpoint], progress: Progress, stop: asyncio.Event
    ) -> None:
        await run_block(self.plan(endpoints), self.journal, progress, stop)

    def plan(self, endpoints: Mapping[str, Endpoint]) -> BlockPlan:
        """What is to be sent; a journal that was cut off in an earlier try is kept, out of the analysis's sight."""
        put_aside(self.journal)
        workload, seed = self.workload, self.workload.seed
        in_order = workload.dataset is not None and workload.dataset.trace is not None
        asked = pick_questions(self.questions, self.stage, self.block, seed, self.planned, in_order)
        return BlockPlan(
            endpoint=endpoints[self.variant],
            stage=self.stage,
            block=self.block,
            seed=seed,
            questions=asked,
            prompt_style=self.style,
            workload=workload,
            place=self.place,
            tokenizer=self.tokenizer,
            identity=self.identity,
        )


@dataclass
class _Mixed:
    """The blocks of a mix: all variants at once."""

    blocks: Sequence[_Block]

    @property
    def variant(self) -> str:
        return ", ".join(block.variant for block in self.blocks)

    @property
    def journals(self) -> dict[str, Path]:
        return {block.variant: block.journal for block in self.blocks}

    def without(self, failed: Container[str]) -> _Mixed | None:
        left = [block for block in self.blocks if block.variant not in failed]
        return _Mixed(left) if left else None

    @property
    def stage(self) -> Stage:
        return self.blocks[0].stage

    @property
    def block(self) -> int:
        return self.blocks[0].block

    @property
    def requests(self) -> int:
        return sum(block.requests for block in self.blocks)

    async def run(
        self, endpoints: Mapping[str, Endpoint], progress: Progress, stop: asyncio.Event
    ) -> None:
        await run_mix(
            {block.journal: block.plan(endpoints) for block in self.blocks}, progress, stop
        )


def _blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, planned: int | None = None
) -> list[_Block | _Mixed]:
    """The blocks still to be run, in order: stages, in each the blocks, in each the variants by turns; probes last.

    `planned`: how many blocks the judged stage has, where that is not what the experiment says.
    """
    experiment = prepared.experiment
    workload = experiment.workload
    counts = {stage.label: workload.blocks for stage in workload.stages}
    counts[experiment.judged_stage] = planned or workload.blocks
    found = [
        block
        for s in workload.stages
        for block in _stage_blocks(prepared, names, out, s, counts[s.label])
    ]
    styles, variants = _styles(prepared), _variants(prepared, names)
    for probe in experiment.quality.probes:
        stage, changed = _probe_load(probe, prepared.prompts, workload)
        for name, variant in variants.items():
            journal, identity = (
                out.journal(name, stage.label, 1),
                prepared.graph.probe(variant, probe).identity,
            )
            if not is_whole(journal, identity):
                asked = _questions(prepared.prompts, probe.name, styles[name])
                found.append(
                    _Block(name, styles[name], stage, 1, asked, changed, journal, identity=identity)
                )
    return found


def _stage_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, stage: Stage, blocks: int
) -> list[_Block | _Mixed]:
    """The first `blocks` blocks of a stage, less those whose journal is whole."""
    workload, styles = prepared.experiment.workload, _styles(prepared)
    questions = {name: _questions(prepared.prompts, "eval", styles[name]) for name in names}
    counting = {name: _counting(prepared, name, out) for name in names}
    identities = {
        name: prepared.graph.stage(v, stage).identity
        for name, v in _variants(prepared, names).items()
    }
    found: list[_Block | _Mixed] = []
    for number, order in enumerate(interleave(names, blocks, workload.seed), start=1):
        places = {
            name: Place(names.index(name), len(names)) if stage.mix else ALONE for name in order
        }
        made = [
            _Block(
                name, styles[name], stage.in_block(number), number, questions[name], workload,
                out.journal(name, stage.label, number),
                places[name], counting[name], identities[name],
            )
            for name in order
        ]  # fmt: skip
        missing = [block for block in made if not is_whole(block.journal, block.identity)]
        if stage.mix:
            found += [_Mixed(made)] if missing else []
        else:
            found += missing
    return found


def _counting(prepared: Prepared, name: str, out: RunDirectory) -> Path | None:
    """The tokenizer that counts for a variant whose server does not."""
    read = (
        read_journal(out.warm_up(name))
        if prepared.tokenizer and out.warm_up(name).is_file()
        else None
    )
    if not isinstance(read, Journal) or not read.requests.ok.any():
        return None
    return (
        prepared.tokenizer
        if np.isnan(read.requests.output_tokens[read.requests.ok]).all()
        else None
    )


def _warm_up(prepared: Prepared, names: Sequence[str], out: RunDirectory) -> list[_Block]:
    """A few questions to every variant before any counts: a server's first requests load and compile what later ones use."""
    workload, styles = prepared.experiment.workload, _styles(prepared)
    stage = Stage.model_validate(
        {"name": "warm-up", "concurrency": WARM_UP_CONCURRENCY, "requests": WARM_UP_REQUESTS}
    )
    return [
        _Block(
            name,
            styles[name],
            stage,
            1,
            _questions(prepared.prompts, "eval", styles[name]),
            workload,
            out.warm_up(name),
        )
        for name in names
    ]


def _variants(prepared: Prepared, names: Sequence[str]) -> dict[str, VariantConfig]:
    return {
        variant.name: variant for variant in prepared.experiment.variants if variant.name in names
    }


def _styles(prepared: Prepared) -> dict[str, str]:
    return {variant.name: prepared.style_of(variant) for variant in prepared.experiment.variants}


def _questions(prompts: Sequence[Prompt], group: str, style: str) -> list[Question]:
    return questions_of([prompt for prompt in prompts if prompt.set == group], style)


def _probe_load(
    probe: Probe, prompts: Sequence[Prompt], workload: WorkloadConfig
) -> tuple[Stage, WorkloadConfig]:
    count = sum(p.set == probe.name for p in prompts)
    stage = Stage.model_validate({"concurrency": PROBE_CONCURRENCY, "requests": count})
    stage = stage.model_copy(update={"name": f"probe-{probe.name}"})  # longer than a name may be
    sampling = workload.sampling.model_copy(update={"max_tokens": probe.max_tokens})
    return stage, workload.model_copy(update={"sampling": sampling, "warmup": 0.0})
