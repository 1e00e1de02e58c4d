"""The blocks of load that a run still lacks, in the order they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyno.experiment.variants import VariantConfig
from dyno.pipeline.failures import put_aside
from dyno.pipeline.prepared import Prepared
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress
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
    run_block,
    run_mix,
)  # fmt: skip
from loadgen.config import Stage, WorkloadConfig
from loadgen.schedule.arrivals import ALONE, MixPlace
from results.config import Probe

PROBE_CONCURRENCY = 4

WARM_UP_CONCURRENCY = 4

WARM_UP_REQUESTS = 8


@dataclass
class LoadBlock:
    """One journal to be written. `workload` is the experiment's, or changed for a probe."""

    variant: str
    style: str
    stage: Stage
    block: int
    questions: Sequence[Question]
    workload: WorkloadConfig
    journal: Path
    place: MixPlace = ALONE
    tokenizer: Path | None = None
    identity: str = ""

    @property
    def journals(self) -> dict[str, Path]:
        """By variant."""
        return {self.variant: self.journal}

    def without(self, failed: Container[str]) -> LoadBlock | None:
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
class MixedBlock:
    """The blocks of a mix: all variants at once."""

    blocks: Sequence[LoadBlock]

    @property
    def variant(self) -> str:
        return ", ".join(block.variant for block in self.blocks)

    @property
    def journals(self) -> dict[str, Path]:
        return {block.variant: block.journal for block in self.blocks}

    def without(self, failed: Container[str]) -> MixedBlock | None:
        left = [block for block in self.blocks if block.variant not in failed]
        return MixedBlock(left) if left else None

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


def missing_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, planned: int | None = None
) -> list[LoadBlock | MixedBlock]:
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
        for block in stage_blocks(prepared, names, out, s, counts[s.label])
    ]
    styles, variants = styles_of(prepared), variants_named(prepared, names)
    for probe in experiment.quality.probes:
        stage, changed = probe_load(probe, prepared.prompts, workload)
        for name, variant in variants.items():
            journal, identity = (
                out.journal(name, stage.label, 1),
                prepared.graph.probe(variant, probe).identity,
            )
            if not is_whole(journal, identity):
                asked = questions_in(prepared.prompts, probe.name, styles[name])
                found.append(
                    LoadBlock(
                        name, styles[name], stage, 1, asked, changed, journal, identity=identity
                    )
                )
    return found


def stage_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, stage: Stage, blocks: int
) -> list[LoadBlock | MixedBlock]:
    """The first `blocks` blocks of a stage, less those whose journal is whole."""
    workload, styles = prepared.experiment.workload, styles_of(prepared)
    questions = {name: questions_in(prepared.prompts, "eval", styles[name]) for name in names}
    counting = {name: _counting(prepared, name, out) for name in names}
    identities = {
        name: prepared.graph.stage(v, stage).identity
        for name, v in variants_named(prepared, names).items()
    }
    found: list[LoadBlock | MixedBlock] = []
    for number, order in enumerate(interleave(names, blocks, workload.seed), start=1):
        places = {
            name: MixPlace(names.index(name), len(names)) if stage.mix else ALONE for name in order
        }
        made = [
            LoadBlock(
                name, styles[name], stage.in_block(number), number, questions[name], workload,
                out.journal(name, stage.label, number),
                places[name], counting[name], identities[name],
            )
            for name in order
        ]  # fmt: skip
        missing = [block for block in made if not is_whole(block.journal, block.identity)]
        if stage.mix:
            found += [MixedBlock(made)] if missing else []
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


def warm_up_blocks(prepared: Prepared, names: Sequence[str], out: RunDirectory) -> list[LoadBlock]:
    """A few questions to every variant before any counts: a server's first requests load and compile what later ones use."""
    workload, styles = prepared.experiment.workload, styles_of(prepared)
    stage = Stage.model_validate(
        {"name": "warm-up", "concurrency": WARM_UP_CONCURRENCY, "requests": WARM_UP_REQUESTS}
    )
    return [
        LoadBlock(
            name,
            styles[name],
            stage,
            1,
            questions_in(prepared.prompts, "eval", styles[name]),
            workload,
            out.warm_up(name),
        )
        for name in names
    ]


def variants_named(prepared: Prepared, names: Sequence[str]) -> dict[str, VariantConfig]:
    return {
        variant.name: variant for variant in prepared.experiment.variants if variant.name in names
    }


def styles_of(prepared: Prepared) -> dict[str, str]:
    return {variant.name: prepared.style_of(variant) for variant in prepared.experiment.variants}


def questions_in(prompts: Sequence[Prompt], group: str, style: str) -> list[Question]:
    return questions_of([prompt for prompt in prompts if prompt.set == group], style)


def probe_load(
    probe: Probe, prompts: Sequence[Prompt], workload: WorkloadConfig
) -> tuple[Stage, WorkloadConfig]:
    count = sum(p.set == probe.name for p in prompts)
    stage = Stage.model_validate({"concurrency": PROBE_CONCURRENCY, "requests": count})
    stage = stage.model_copy(update={"name": f"probe-{probe.name}"})  # longer than a name may be
    sampling = workload.sampling.model_copy(update={"max_tokens": probe.max_tokens})
    return stage, workload.model_copy(update={"sampling": sampling, "warmup": 0.0})
