"""Trains the adapters that learn the data, and one for each pruned or distilled variant.

A student learns its teacher's answers to the training prompts, which the load generator collects. A
pruned variant is healed on the training data. Both adapters are merged and served like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import finetune
import serve
from dyno.artifacts.artifact import Artifact
from dyno.artifacts.stored import is_done, making, set_aside
from dyno.experiment.variants import VariantConfig
from dyno.own_process import isolated
from dyno.pipeline.block_runner import guarded
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from finetune.config import FinetuneConfig
from finetune.launch import TrainedElsewhere, launch
from finetune.score import Scorer
from foundation.data.examples import Example, render, sample
from foundation.errors import SystemFailed
from foundation.progress import Progress
from foundation.run.journal import Journal, is_whole, read_journal
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN
from foundation.run.requests import Requests
from loadgen import BlockPlan, Question, reach, run_block
from loadgen.config import Stage, WorkloadConfig
from loadgen.event_loop import run as run_loop
from results.measures.quality import score, with_labels

COLLECT_CONCURRENCY = 8


def make_adapters(
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
    only: Sequence[str] = (),
    launch_with: str | None = None,
) -> list[Path]:
    """Trains the adapters that learn the data, and returns their folders.

    Those that the variants in `only` need, if it names any. `launch_with`: accelerate and its
    options; of several machines, only the first has the adapters in the end.
    """
    folders = []
    for training in prepared.trainings(only):
        folder = prepared.path(training.adapter, run)
        if not is_done(folder, training.adapter):
            place = prepared.graph.place(training.adapter)
            if training.where != "finetune":
                progress.log(f"training {place}, as {training.where} says")
            try:
                with making(run, place, training.adapter, go_on=True) as out:
                    _train(prepared, training.job, out, run, progress, launch_with)
            except TrainedElsewhere as end:
                progress.log(str(end))
                continue
        folders.append(folder)
    return folders


def make_student(
    prepared: Prepared, variant: VariantConfig, run: RunDirectory, progress: Progress
) -> None:
    """Prunes, collects the teacher's answers and trains, as far as the variant still needs it."""
    config = prepared.experiment.finetune_of(variant)
    assert config is not None
    graph, base = prepared.graph, prepared.trained_base(variant, run)
    if variant.prune is not None and not is_done(base.path, pruned := graph.pruned(variant)):
        with making(run, graph.place(pruned), pruned) as out:
            job = finetune.TrainingJob(
                config, prepared.base_of(variant), prepared.train, (), prepared.wording_of(variant)
            )
            log = run.logs / f"{variant.name}.log"
            isolated(finetune.prune, job, variant.prune, out, progress=progress, log=log)
    artifact = graph.student(variant)
    if not is_done(prepared.path(artifact, run), artifact):
        examples = (
            prepared.train
            if variant.distil is None
            else _answers(prepared, variant, config, run, progress)
        )
        with making(run, graph.place(artifact), artifact, go_on=True) as out:
            job = finetune.TrainingJob(
                config, base, examples, prepared.heldout, prepared.wording_of(variant)
            )
            _train(prepared, job, out, run, progress)


def _train(
    prepared: Prepared,
    job: finetune.TrainingJob,
    out: Path,
    run: RunDirectory,
    progress: Progress,
    launch_with: str | None = None,
) -> None:
    scorer = partial(
        score,
        with_labels(prepared.experiment.quality, [p for p in prepared.prompts if p.set == "eval"]),
    )
    log = run.logs / "finetune.log"
    if launch_with is not None:
        launch(launch_with, job, out, scorer, progress, log)
    else:
        isolated(_train_here, job, out, scorer, progress=progress, log=log)


def _train_here(
    job: finetune.TrainingJob, out: Path, scorer: Scorer, *, progress: Progress
) -> None:
    finetune.train(job, out, progress, scorer)


def _answers(
    prepared: Prepared,
    student: VariantConfig,
    config: FinetuneConfig,
    run: RunDirectory,
    progress: Progress,
) -> list[Example]:
    """The training examples with the teacher's answers in place of their own.

    Examples that the teacher did not answer to the end are left out.
    """
    teacher = next(v for v in prepared.experiment.variants if v.name == student.distil)
    examples = sample(prepared.train, config.limit, config.seed)
    answers = prepared.graph.answers(student)
    journal, identity = run.path / f"{answers.name}.jsonl", answers.identity
    if not is_whole(journal, identity):
        journal.parent.mkdir(exist_ok=True)
        if journal.exists():
            set_aside(run, journal)
        style = prepared.wording_of(teacher)
        questions = [Question(str(i), render(example, style)) for i, example in enumerate(examples)]
        run_loop(_collect(prepared, teacher, questions, answers, run, progress))
    contents = read_journal(journal)
    texts = _whole_answers(contents.requests) if isinstance(contents, Journal) else {}
    if not texts:
        raise SystemFailed(
            f"variants.{student.name}.distil: {teacher.name} gave no whole answer "
            f"to any of {len(examples)} questions"
        )
    progress.log(
        f"distil: {len(texts)} of {len(examples)} answers of {teacher.name} are whole, "
        f"and taught to {student.name}"
    )
    return [_with_answer(example, texts[i]) for i, example in enumerate(examples) if i in texts]


def _with_answer(example: Example, text: str) -> Example:
    """The example with another answer, whose weight is 1 whatever that of the old answer was."""
    earlier = {
        place: weight for place, weight in example.weights.items() if place < len(example.messages)
    }
    return replace(example, completion=text, answer_keys={}, weights=earlier)


def _whole_answers(requests: Requests) -> dict[int, str]:
    """The answers that the teacher ended itself, by the index of the example."""
    rows = zip(requests.prompt_id, requests.ok, requests.finish_reason, requests.text, strict=True)
    return {
        int(prompt): text
        for prompt, ok, reason, text in rows
        if ok and reason == "stop" and text.strip()
    }


async def _collect(
    prepared: Prepared,
    teacher: VariantConfig,
    questions: list[Question],
    answers: Artifact,
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Serves the teacher, sends it the questions, and writes the journal of its answers."""
    experiment = prepared.experiment
    plan = serve.check([served_variant(prepared, teacher, run)], experiment.serve)
    stage = Stage.model_validate(
        {
            "name": "distil",
            "concurrency": COLLECT_CONCURRENCY,
            "requests": len(questions),
            "warmup": "0s",
        }
    )
    measured = experiment.workload
    workload = WorkloadConfig(
        stages=(stage,),
        api=measured.api,
        sampling=measured.sampling,
        deadlines=measured.deadlines,
        transport=measured.transport,
    )
    is_answering = partial(reach, workload=workload, log=progress.log)
    hosting = serve.Hosting(plan, serve.ServerFolders(run.logs), progress, is_answering)
    async with hosting.round([teacher.name]) as endpoints:
        progress.stage(f"ask {teacher.name}", len(questions), "requests")
        endpoint, style = endpoints[teacher.name], teacher.prompt or PLAIN
        block = BlockPlan(
            endpoint, stage, 1, measured.seed, questions, style, workload, identity=answers.identity
        )
        journal = run.path / f"{answers.name}.jsonl"

        async def send() -> None:
            await run_block(block, journal, progress, asyncio.Event())

        await guarded(hosting.watch, send())
