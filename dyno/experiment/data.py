"""Reads the data that an experiment names, and checks that each line can be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyno.experiment.bundled import PREFIX, bundled_file
from dyno.experiment.schema import Experiment
from foundation.data.examples import Example, read_examples
from foundation.data.leaks import without_leaks
from foundation.data.tables import HUB
from foundation.errors import BadInput
from foundation.progress import Progress
from results.config import Probe, Scoring
from results.measures.quality import NEEDS_NO_REFERENCE, why_no_reference


def read_data(
    experiment: Experiment, where: Path, progress: Progress
) -> tuple[list[Example], list[Example]]:
    """The training and the held-out examples of the section data.

    The training examples are empty unless something trains or calibrates. Raises BadInput that
    names file and line, also for a prompt in both (`data.on_leak`). A teacher answers the training
    prompts, so they must need no tools.
    """
    learns = experiment.finetune or any(
        v.quantize and v.quantize.calibrated for v in experiment.variants
    )
    data = experiment.data
    train = _read(experiment, data.train, where, progress) if learns and data.train else []
    heldout = []
    if data.eval:
        heldout = _read(experiment, data.eval, where, progress, _needs_answers(experiment))
    train, note = without_leaks(train, heldout, data.on_leak)
    if note:
        progress.log(note)
    if any(variant.distil for variant in experiment.variants):
        for example in train:
            _check_needs_no_tools(example)
    return train, heldout


def read_probe(
    experiment: Experiment, probe: Probe, where: Path, progress: Progress
) -> list[Example]:
    """The first `requests` examples of a probe, whose file has our column names.

    `data.ignore` holds for it too.
    """
    answers = probe.scorer not in NEEDS_NO_REFERENCE
    source = _source(probe.data, where, progress)
    return read_examples(source, ignore=experiment.data.ignore, answers=answers)[: probe.requests]


def check_requests(scoring: Scoring, section: str, examples: Sequence[Example]) -> None:
    """Raises BadInput for a line that a load can't send, or an answer that can't be right.

    An answer can't be right if it is none of the labels, or no number. `section`: the place of
    `scoring` in the experiment.
    """
    for example in examples:
        _check_needs_no_tools(example)
        if example.weights.get(len(example.messages)) == 0:
            raise BadInput(
                f"{example.where}: the answer has weight 0, so it is no reference; "
                "take this line out of what is asked, or write data.ignore: [weight]"
            )
        if example.reference and (problem := why_no_reference(scoring, example.reference)):
            raise BadInput(
                f"{example.where}: the answer: {problem} ({section}.scorer is {scoring.scorer})"
            )


def _check_needs_no_tools(example: Example) -> None:
    tool_messages = [m for m in example.messages if m["role"] == "tool" or "tool_calls" in m]
    if example.tools or tool_messages or "tool_calls" in example.answer_keys:
        raise BadInput(
            f"{example.where}: tools: a load asks for texts, without tools; "
            "take this line out of what is asked, or write data.ignore: [tools, tool_calls]"
        )


def _needs_answers(experiment: Experiment) -> bool:
    """Whether each held-out line needs an answer.

    Held-out loss, a quantized model's recovery and a limit on quality need one.
    """
    quality = experiment.quality
    judged = quality.min is not None or quality.max_drop is not None
    recovered = any(variant.quantize for variant in experiment.variants)
    return (
        experiment.finetune is not None
        or recovered
        or (judged and quality.scorer not in NEEDS_NO_REFERENCE)
    )


def _read(
    experiment: Experiment, name: str, where: Path, progress: Progress, answers: bool = True
) -> list[Example]:
    source, data = _source(name, where, progress), experiment.data
    if name.startswith(PREFIX):
        return read_examples(source)
    fields = {field for prompt in experiment.prompts.values() for field in prompt.style.fields()}
    return read_examples(
        source,
        data.columns,
        ignore=data.ignore,
        fields=fields,
        encoding=data.encoding,
        answers=answers,
    )


def _source(name: str, where: Path, progress: Progress) -> Path | str:
    if name.startswith(PREFIX):
        return bundled_file(name.removeprefix(PREFIX), progress)
    return name if name.startswith(HUB) else (where / name).resolve()
