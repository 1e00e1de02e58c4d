"""The blocks of load that a run lacks, in their order."""

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
from loadgen.schedule.arrivals import ALONE, WHOLE, MixPlace, WorkerShare
from loadgen.sending.nodes.node import Node
from loadgen.sending.shared_start import SharedStart
from results.config import Probe

PROBE_CONCURRENCY = 4
WARM_UP_CONCURRENCY = 4
WARM_UP_REQUESTS = 8


@dataclass
class LoadBlock:
    """A block of one variant, and the journal to write.

    `workload`: the experiment's, or a probe's. `place`: its place in a mix. `tokenizer`: the folder
    of the one that counts answers if the server does not. `identity`: that of the journal.
    `share`: what this host sends of it, and `shared_start` when all hosts begin.
    `on_one`: this machine sends it, and of replicas the first gets all requests, so that all stamps
    are of one clock and one engine.
    """

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
    share: WorkerShare = WHOLE
    shared_start: SharedStart | None = None
    on_one: bool = False

    @property
    def journals(self) -> dict[str, Path]:
        """The journal, by variant."""
        return {self.variant: self.journal}

    def without(self, failed: Container[str]) -> LoadBlock | None:
        """The block, or None if its variant failed."""
        return None if self.variant in failed else self

    @property
    def planned(self) -> int | None:
        """The number of requests; None for a closed loop with a duration."""
        return planned_requests(
            self.stage, self.workload.seed, self.block, self.workload.warmup, self.place
        )

    @property
    def requests(self) -> int:
        """Its part of the progress bar; a closed loop with a duration counts as one request."""
        return len(self.share.of(self.planned)) if self.planned else 1

    async def run(
        self,
        endpoints: Mapping[str, Endpoint],
        progress: Progress,
        stop: asyncio.Event,
        nodes: Sequence[Node] = (),
    ) -> None:
        """Sends the block and writes its journal; once `stop` is set, sends no further request.

        `nodes`: the machines that send it; without any, this one does.
        """
        await run_block(self.plan(endpoints, nodes), self.journal, progress, stop)

    def plan(self, endpoints: Mapping[str, Endpoint], nodes: Sequence[Node] = ()) -> BlockPlan:
        """The requests to send. Puts the incomplete journal of an earlier try aside."""
        put_aside(self.journal)
        workload, seed = self.workload, self.workload.seed
        in_order = workload.dataset is not None and workload.dataset.trace is not None
        questions = pick_questions(
            self.questions, self.stage, self.block, seed, self.planned, in_order
        )
        endpoint = endpoints[self.variant]
        return BlockPlan(
            endpoint=endpoint.first if self.on_one else endpoint,
            stage=self.stage,
            block=self.block,
            seed=seed,
            questions=questions,
            prompt_style=self.style,
            workload=workload,
            place=self.place,
            tokenizer=self.tokenizer,
            identity=self.identity,
            share=self.share,
            shared_start=self.shared_start,
            nodes=() if self.on_one else tuple(nodes),
        )


@dataclass
class MixedBlock:
    """A block of all variants at once."""

    blocks: Sequence[LoadBlock]

    @property
    def variant(self) -> str:
        """The names of its variants."""
        return ", ".join(block.variant for block in self.blocks)

    @property
    def journals(self) -> dict[str, Path]:
        """The journals, by variant."""
        return {block.variant: block.journal for block in self.blocks}

    def without(self, failed: Container[str]) -> MixedBlock | None:
        """The block less failed variants; None if none is left."""
        left = [block for block in self.blocks if block.variant not in failed]
        return MixedBlock(left) if left else None

    @property
    def stage(self) -> Stage:
        """The stage of all its blocks."""
        return self.blocks[0].stage

    @property
    def block(self) -> int:
        """Its number, from 1."""
        return self.blocks[0].block

    @property
    def requests(self) -> int:
        """The requests of all its blocks."""
        return sum(block.requests for block in self.blocks)

    async def run(
        self,
        endpoints: Mapping[str, Endpoint],
        progress: Progress,
        stop: asyncio.Event,
        nodes: Sequence[Node] = (),
    ) -> None:
        """Sends the blocks at once; once `stop` is set, sends no further request."""
        await run_mix(
            {block.journal: block.plan(endpoints, nodes) for block in self.blocks}, progress, stop
        )


def missing_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, planned: int | None = None
) -> list[LoadBlock | MixedBlock]:
    """The blocks without a whole journal, in order: by stage, by block, by variant; probes last.

    `planned`: the blocks of the judged stage, if not those of the experiment; 0 after a race.
    """
    experiment = prepared.experiment
    workload = experiment.workload
    counts = {stage.label: workload.blocks for stage in workload.stages}
    counts[experiment.judged_stage] = workload.blocks if planned is None else planned
    blocks = [
        block
        for s in workload.stages
        for block in stage_blocks(prepared, names, out, s, counts[s.label])
    ]
    return blocks + probe_blocks(prepared, names, out)


def probe_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory
) -> list[LoadBlock | MixedBlock]:
    """The probes of these variants without a whole journal."""
    experiment, blocks = prepared.experiment, list[LoadBlock | MixedBlock]()
    styles, variants = styles_of(prepared), variants_named(prepared, names)
    for probe in experiment.quality.probes:
        for name, variant in variants.items():
            own = experiment.workload_of(variant)
            stage, load = probe_load(probe, prepared.prompts, own)
            style, journal = styles[name], out.journal(name, stage.label, 1)
            identity = prepared.graph.probe(variant, probe).identity
            if is_whole(journal, identity):
                continue
            questions = questions_in(prepared.prompts, probe.name, style)
            blocks.append(
                LoadBlock(name, style, stage, 1, questions, load, journal, identity=identity)
            )
    return blocks


def stage_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, stage: Stage, blocks: int
) -> list[LoadBlock | MixedBlock]:
    """The first `blocks` blocks of a stage, less those whose journal is whole."""
    return numbered_blocks(prepared, names, out, stage, range(1, blocks + 1))


def numbered_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, stage: Stage, numbers: range
) -> list[LoadBlock | MixedBlock]:
    """The blocks of a stage with these numbers, less those whose journal is whole."""
    experiment, styles = prepared.experiment, styles_of(prepared)
    variants = variants_named(prepared, names)
    workloads = {name: experiment.workload_of(variant) for name, variant in variants.items()}
    questions = {name: questions_in(prepared.prompts, "eval", styles[name]) for name in names}
    tokenizers = {name: _answer_tokenizer(prepared, name, out) for name in names}
    identities = {name: prepared.graph.stage(v, stage).identity for name, v in variants.items()}
    blocks_left: list[LoadBlock | MixedBlock] = []
    orders = interleave(names, numbers.stop - 1, experiment.workload.seed)
    for number in numbers:
        order = orders[number - 1]
        places = {
            name: MixPlace(names.index(name), len(names)) if stage.mix else ALONE for name in order
        }
        all_variants = [
            LoadBlock(
                variant=name,
                style=styles[name],
                stage=stage.in_block(number),
                block=number,
                questions=questions[name],
                workload=workloads[name],
                journal=out.journal(name, stage.label, number),
                place=places[name],
                tokenizer=tokenizers[name],
                identity=identities[name],
            )
            for name in order
        ]
        missing = [block for block in all_variants if not is_whole(block.journal, block.identity)]
        if not stage.mix:
            blocks_left += missing
        elif missing:
            blocks_left.append(MixedBlock(all_variants))
    return blocks_left


def _answer_tokenizer(prepared: Prepared, name: str, out: RunDirectory) -> Path | None:
    """The tokenizer for a variant whose server counted no answer of its warm-up; else None."""
    if prepared.tokenizer is None or not out.warm_up(name).is_file():
        return None
    journal = read_journal(out.warm_up(name))
    if not isinstance(journal, Journal) or not journal.requests.ok.any():
        return None
    counts = journal.requests.output_tokens[journal.requests.ok]
    return prepared.tokenizer if np.isnan(counts).all() else None


def warm_up_blocks(prepared: Prepared, names: Sequence[str], out: RunDirectory) -> list[LoadBlock]:
    """A few uncounted requests for each variant, since a server loads and compiles on its first."""
    experiment, styles = prepared.experiment, styles_of(prepared)
    variants = variants_named(prepared, names)
    return [
        LoadBlock(
            name,
            styles[name],
            _warm_up_stage(experiment.replicas_of(variants[name])),
            1,
            questions_in(prepared.prompts, "eval", styles[name]),
            experiment.workload_of(variants[name]),
            out.warm_up(name),
        )
        for name in names
    ]


def _warm_up_stage(replicas: int) -> Stage:
    """As many requests for each replica."""
    return Stage.model_validate(
        {
            "name": "warm-up",
            "concurrency": WARM_UP_CONCURRENCY * replicas,
            "requests": WARM_UP_REQUESTS * replicas,
        }
    )


def variants_named(prepared: Prepared, names: Sequence[str]) -> dict[str, VariantConfig]:
    """The variants of these names, in the experiment's order."""
    return {
        variant.name: variant for variant in prepared.experiment.variants if variant.name in names
    }


def replicas_of(prepared: Prepared, name: str) -> int:
    """How many servers answer for the variant of this name."""
    [variant] = variants_named(prepared, [name]).values()
    return prepared.experiment.replicas_of(variant)


def styles_of(prepared: Prepared) -> dict[str, str]:
    """The name of the prompt style of each variant."""
    return {variant.name: prepared.style_of(variant) for variant in prepared.experiment.variants}


def questions_in(prompts: Sequence[Prompt], group: str, style: str) -> list[Question]:
    """The questions of a set of prompts in a style."""
    return questions_of([prompt for prompt in prompts if prompt.set == group], style)


def probe_load(
    probe: Probe, prompts: Sequence[Prompt], workload: WorkloadConfig
) -> tuple[Stage, WorkloadConfig]:
    """The stage and the workload of a probe, which asks each of its questions once."""
    count = sum(p.set == probe.name for p in prompts)
    stage = Stage.model_validate({"concurrency": PROBE_CONCURRENCY, "requests": count})
    stage = stage.model_copy(update={"name": f"probe-{probe.name}"})  # longer than a name may be
    sampling = workload.sampling.model_copy(update={"max_tokens": probe.max_tokens})
    return stage, workload.model_copy(update={"sampling": sampling, "warmup": 0.0})


def even_arrivals(workload: WorkloadConfig) -> dict[str, object]:
    """How the first stage of one even rate arrives, as keys of another stage; else by Poisson."""
    even = next((s for s in workload.stages if s.rate and not s.uneven and not s.mix), None)
    if even is None:
        return {"arrivals": "poisson"}
    keys = {"arrivals": even.arrivals, "burstiness": even.burstiness}
    return {key: value for key, value in keys.items() if value is not None}
