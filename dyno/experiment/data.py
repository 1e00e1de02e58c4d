"""The data that an experiment names: what is learned, what is asked, and whether each line can be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyno.experiment.bundled import bundled_file
from dyno.experiment.schema import PREFIX, Experiment
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
    """What is learned from and what is held out, as `data` says; the first is empty where nothing learns.

    Raises BadInput that names file and line, and for a prompt in both (`data.on_leak`). A teacher is asked the training
    prompts, so they may need no tools.
    """
    learns = experiment.finetune or any(
        v.quantize and v.quantize.calibrated for v in experiment.variants
    )
    data = experiment.data
    train = _read(experiment, data.train, where, progress) if learns and data.train else []
    heldout = (
        _read(experiment, data.eval, where, progress, _needs_answers(experiment))
        if data.eval
        else []
    )
    train, said = without_leaks(train, heldout, data.on_leak)
    if said:
        progress.log(said)
    if any(variant.distil for variant in experiment.variants):
        for example in train:
            _check_texts(example)
    return train, heldout


def read_probe(
    experiment: Experiment, probe: Probe, where: Path, progress: Progress
) -> list[Example]:
    """The first `requests` questions of a probe. It has columns of our names; `data.ignore` counts for it too."""
    answers = probe.scorer not in NEEDS_NO_REFERENCE
    source = _source(probe.data, where, progress)
    return read_examples(source, ignore=experiment.data.ignore, answers=answers)[: probe.requests]


def check_asked(scoring: Scoring, section: str, examples: Sequence[Example]) -> None:
    """Raises BadInput for a line that a load can't ask, and for an answer that can't be right: none of the labels, no number."""
    for example in examples:
        _check_texts(example)
        if example.weights.get(len(example.messages)) == 0:
            raise BadInput(
                f"{example.where}: the answer has weight 0, so it is no reference; take this line out of what is asked, "
                "or write data.ignore: [weight]"
            )
        if example.reference and (why := why_no_reference(scoring, example.reference)):
            raise BadInput(
                f"{example.where}: the answer: {why} ({section}.scorer is {scoring.scorer})"
            )


def _check_texts(example: Example) -> None:
    needs = [m for m in example.messages if m["role"] == "tool" or "tool_calls" in m]
    if example.tools or needs or "tool_calls" in example.answer_keys:
        raise BadInput(
            f"{example.where}: tools: a load asks for texts, without tools; take this line out of what is asked, "
            "or write data.ignore: [tools, tool_calls]"
        )


def _needs_answers(experiment: Experiment) -> bool:
    """Whether each held-out line needs an answer: for a held-out loss, a quantized model's recovery, or a floor of quality."""
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
    named = {field for prompt in experiment.prompts.values() for field in prompt.style.fields()}
    return read_examples(
        source,
        data.columns,
        ignore=data.ignore,
        fields=named,
        encoding=data.encoding,
        answers=answers,
    )


def _source(name: str, where: Path, progress: Progress) -> Path | str:
    if name.startswith(PREFIX):
        return bundled_file(name.removeprefix(PREFIX), progress)
    return name if name.startswith(HUB) else (where / name).resolve()
