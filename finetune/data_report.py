"""The data report: what will be learned, before anything slow starts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.control_tokens import with_control_tokens
from finetune.job import TrainingJob
from finetune.tokens import ExampleTokens
from foundation.data.examples import Example

FILE = "data-report.md"
_MOST_LABELS = 20
_LABEL_CHARACTERS = 60
_PERCENTILES = (50, 90, 95, 99, 100)


@dataclass(frozen=True)
class DataReport:
    """What will be trained on. Lengths are tokens of prompt and completion.

    `shared_prefix` is the length of the beginning that all prompts share. `duplicates` are
    questions asked more than once, `conflicts` those of them with different answers, `leaks`
    held-out questions that differ from a training question in punctuation and digits at most.
    `truncated` to `earlier` are as in `LostExamples`. `control` counts the examples of both splits
    whose texts hold a special token, the first being `control_first`. `labels` counts the answers
    where they are few and come again.
    """

    train: int
    heldout: int
    duplicates: int
    leaks: int
    tokens: int
    trained_tokens: int
    percentiles: dict[int, int]
    shared_prefix: int
    truncated: int
    dropped: int
    sample: str
    labels: dict[str, int] = field(default_factory=dict)
    conflicts: int = 0
    conflict_first: str = ""
    unlearned: int = 0
    earlier: int = 0
    control: int = 0
    control_first: str = ""

    @property
    def length_max(self) -> int:
        """The length of the longest example, in tokens."""
        return self.percentiles[100]

    def __str__(self) -> str:
        counts = {
            "asked more than once": self.duplicates,
            "completions truncated": self.truncated,
            "too long and left out": self.dropped,
            "of weight 0 and left out": self.unlearned,
        }
        lost = "".join(f", {n} {what}" for what, n in counts.items() if n)
        return (
            f"{self.train} examples{lost}, {self.tokens} tokens (p50 {self.percentiles[50]}, "
            f"p95 {self.percentiles[95]}, max {self.length_max}), "
            f"{self.trained_tokens} of them learned; {self.heldout} held out{self._oddities()}"
        )

    def _oddities(self) -> str:
        oddities = {
            f"questions have different answers ({self.conflict_first})": self.conflicts,
            "earlier answers are not learned (train_on: all learns them)": self.earlier,
            f"examples hold control tokens ({self.control_first})": self.control,
        }
        return "".join(f"; {n} {what}" for what, n in oddities.items() if n)

    def text(self) -> str:
        """Markdown: every number, and an example as the model sees it.

        What the model learns stands between ⟦ and ⟧.
        """
        lengths = ", ".join(
            f"{'max' if p == 100 else f'p{p}'} {n}" for p, n in self.percentiles.items()
        )
        rows = {
            "examples": f"{self.train} to learn, {self.heldout} held out",
            "tokens": f"{self.tokens}, {self.trained_tokens} of them learned "
            f"({self.trained_tokens / self.tokens:.1%})",
            "tokens an example": lengths,
            "shared beginning of the prompts": f"{self.shared_prefix} tokens",
            "asked more than once": str(self.duplicates),
            "of them, with different answers": _first(self.conflicts, self.conflict_first),
            "held out, but close to a training question": str(self.leaks),
            "completions truncated": str(self.truncated),
            "too long, left out": str(self.dropped),
            "of weight 0, left out": str(self.unlearned),
            "earlier answers, not learned": str(self.earlier),
            "control tokens in the texts": _first(self.control, self.control_first),
        }
        lines = [
            "| data | |",
            "|---|---|",
            *(f"| {what} | {value} |" for what, value in rows.items()),
        ]
        if self.labels:
            lines += ["", "| answer | examples | share |", "|---|---|---|"]
            lines += [
                f"| {label} | {n} | {n / self.train:.1%} |" for label, n in self.labels.items()
            ]
        return "\n".join(
            [
                *lines,
                "",
                "An example as the model sees it; it learns what stands between ⟦ and ⟧:",
                "",
                self.sample,
            ]
        )


@dataclass(frozen=True)
class LostExamples:
    """What the training leaves out.

    `truncated` completions lost their end, `dropped` examples are too long, `unlearned` ones have
    weight 0 alone; `earlier` counts answers of earlier turns.
    """

    truncated: int
    dropped: int
    unlearned: int
    earlier: int


def describe(
    job: TrainingJob,
    tokenizer: Any,
    learned: Sequence[ExampleTokens],
    watched: int,
    prefix: Sequence[int],
    lost: LostExamples,
) -> DataReport:
    """The report on all examples of the job; `learned` are trained on, `watched` evaluated on."""
    control = with_control_tokens([*job.train, *job.heldout], tokenizer)
    conflicts = _conflicts(job.train)
    lengths = sorted(map(len, learned))
    questions = {_bare(example) for example in job.train}
    return DataReport(
        train=len(learned),
        heldout=watched,
        duplicates=len(job.train) - len({example.key for example in job.train}),
        leaks=sum(_bare(example) in questions for example in job.heldout),
        tokens=sum(lengths),
        trained_tokens=sum(stop - start for t in learned for start, stop in t.learned),
        percentiles={
            p: lengths[min(len(lengths) - 1, len(lengths) * p // 100)] for p in _PERCENTILES
        },
        shared_prefix=len(prefix),
        truncated=lost.truncated,
        dropped=lost.dropped,
        sample=_marked(learned[0], tokenizer),
        labels=_labels(learned),
        conflicts=len(conflicts),
        conflict_first=conflicts[0] if conflicts else "",
        unlearned=lost.unlearned,
        earlier=lost.earlier,
        control=len(control),
        control_first=f"{control[0][0]}: {control[0][1]}" if control else "",
    )


def _conflicts(examples: Sequence[Example]) -> list[str]:
    """Questions with different answers, each by the lines of the first two that differ."""
    first: dict[str, Example] = {}
    differing: dict[str, str] = {}
    for example in examples:
        before = first.setdefault(example.key, example)
        if (before.completion.strip(), before.answer_keys) != (
            example.completion.strip(),
            example.answer_keys,
        ):
            differing.setdefault(example.key, f"{before.where} and {example.where}")
    return list(differing.values())


def _marked(tokens: ExampleTokens, tokenizer: Any) -> str:
    """The tokens as text, with what the model learns between ⟦ and ⟧."""
    ids, text, end = [*tokens.prompt, *tokens.completion], "", 0
    for start, stop in tokens.learned:
        text += f"{tokenizer.decode(ids[end:start])}⟦{tokenizer.decode(ids[start:stop])}⟧"
        end = stop
    return text


def _first(count: int, first: str) -> str:
    return f"{count} (the first: {first})" if count else "0"


def _bare(example: Example) -> str:
    """The question without punctuation and digits, equal for one template filled in twice."""
    return re.sub(r"[\W\d_]+", " ", example.key).strip() or example.key


def _labels(learned: Sequence[ExampleTokens]) -> dict[str, int]:
    counts = Counter(t.answer for t in learned)
    few = len(counts) <= min(_MOST_LABELS, len(learned) // 2)
    return (
        dict(counts.most_common())
        if few and all(0 < len(label) <= _LABEL_CHARACTERS for label in counts)
        else {}
    )
