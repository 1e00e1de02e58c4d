"""The data report: what will be learned, told before anything slow starts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foundation.examples import Example

if TYPE_CHECKING:
    from finetune.data import Tokens

FILE = "data-report.md"
_MOST_LABELS = 20
_LABEL_CHARACTERS = 60
_PERCENTILES = (50, 90, 95, 99, 100)


@dataclass(frozen=True)
class DataReport:
    """What will be trained on. Lengths are tokens of prompt and completion; `shared_prefix` is what all prompts begin with.

    `duplicates` are questions asked more than once, `leaks` held-out questions that differ from a training question in
    punctuation and digits only (the same question in both is an error). `truncated` completions lost their end, `dropped`
    examples were too long. `labels` counts the answers where they are few and come again.
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

    @property
    def length_max(self) -> int:
        return self.percentiles[100]

    def __str__(self) -> str:
        repeated = f", {self.duplicates} asked more than once" if self.duplicates else ""
        lost = f", {self.truncated} completions truncated" if self.truncated else ""
        lost += f", {self.dropped} too long and left out" if self.dropped else ""
        return (
            f"{self.train} examples{repeated}{lost}, {self.tokens} tokens (p50 {self.percentiles[50]}, "
            f"p95 {self.percentiles[95]}, max {self.length_max}), {self.trained_tokens} of them learned; {self.heldout} held out"
        )

    def text(self) -> str:
        """Markdown: every number, and an example as the model sees it, with what it learns between ⟦ and ⟧."""
        lengths = ", ".join(f"{'max' if p == 100 else f'p{p}'} {n}" for p, n in self.percentiles.items())
        rows = {
            "examples": f"{self.train} to learn, {self.heldout} held out",
            "tokens": f"{self.tokens}, {self.trained_tokens} of them learned ({self.trained_tokens / self.tokens:.1%})",
            "tokens an example": lengths,
            "shared beginning of the prompts": f"{self.shared_prefix} tokens",
            "asked more than once": str(self.duplicates),
            "held out, but close to a training question": str(self.leaks),
            "completions truncated": str(self.truncated),
            "too long, left out": str(self.dropped),
        }
        lines = ["| data | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items())]
        if self.labels:
            lines += ["", "| answer | examples | share |", "|---|---|---|"]
            lines += [f"| {label} | {n} | {n / self.train:.1%} |" for label, n in self.labels.items()]
        return "\n".join([*lines, "", "An example as the model sees it; it learns what stands between ⟦ and ⟧:", "", self.sample])


def describe(
    examples: Sequence[Example], heldout: Sequence[Example], learned: Sequence[Tokens], watched: int, prefix: list[int],
    lost: tuple[int, int], tokenizer: Any,
) -> DataReport:  # fmt: skip
    """The report on all `examples`, of which `learned` were taken. `lost` is how many were truncated and dropped."""
    lengths = sorted(len(t) for t in learned)
    first = learned[0]
    close = {_bare(e) for e in examples}
    return DataReport(
        train=len(learned),
        heldout=watched,
        duplicates=len(examples) - len({e.key for e in examples}),
        leaks=sum(_bare(e) in close for e in heldout),
        tokens=sum(lengths),
        trained_tokens=sum(len(t.completion) for t in learned),
        percentiles={p: lengths[min(len(lengths) - 1, len(lengths) * p // 100)] for p in _PERCENTILES},
        shared_prefix=len(prefix),
        truncated=lost[0],
        dropped=lost[1],
        sample=f"{tokenizer.decode(first.prompt)}⟦{tokenizer.decode(first.completion)}⟧",
        labels=_labels(learned),
    )


def _bare(example: Example) -> str:
    """The question without punctuation and digits: what is left of a template that was filled in twice is equal."""
    return re.sub(r"[\W\d_]+", " ", example.key).strip() or example.key


def _labels(learned: Sequence[Tokens]) -> dict[str, int]:
    counts = Counter(t.answer for t in learned)
    few = len(counts) <= min(_MOST_LABELS, len(learned) // 2)
    return dict(counts.most_common()) if few and all(len(label) <= _LABEL_CHARACTERS for label in counts) else {}
