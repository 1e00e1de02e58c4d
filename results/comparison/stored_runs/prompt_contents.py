"""The questions and references of two runs by content, whatever their prompts' ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import msgspec
import numpy as np

from foundation.run.records import Prompt
from results.statistics.prompt_totals import PromptTotals

Coverage = Literal["all", "common", "none"]


@dataclass(frozen=True)
class Contents:
    """The prompts of a question set in one style: digests of question and reference by id."""

    questions: Mapping[str, str]
    references: Mapping[str, str | None]

    def by_question(self, values: Mapping[str, float]) -> dict[str, float]:
        """Values by prompt id as values by question: the mean where two prompts ask the same."""
        gathered: dict[str, list[float]] = {}
        for prompt, value in values.items():
            if prompt in self.questions:
                gathered.setdefault(self.questions[prompt], []).append(value)
        return {question: float(np.mean(each)) for question, each in gathered.items()}

    def totals_by_question(self, totals: PromptTotals) -> dict[str, tuple[float, int]]:
        """Sums and numbers by prompt id as those by question."""
        gathered: dict[str, tuple[float, int]] = {}
        for prompt, (total, n) in totals.items():
            if prompt in self.questions:
                before = gathered.get(self.questions[prompt], (0.0, 0))
                gathered[self.questions[prompt]] = (before[0] + total, before[1] + n)
        return gathered


def contents_of(
    prompts: Mapping[str, Prompt], group: str, style: str, *, lengths_only: bool = False
) -> Contents:
    """The prompts of the set `group`. A turn's question holds the turns before it.

    `lengths_only`: of made-up prompts, whose words mean nothing, only the lengths count.
    """
    questions: dict[str, str] = {}
    for prompt in prompts.values():
        if prompt.set != group:
            continue
        before = questions.get(prompt.after, prompt.after) if prompt.after else None
        words: Any = None if lengths_only else prompt.messages.get(style, [style, prompt.messages])
        content = [words, before, prompt.input_tokens, prompt.output_tokens, prompt.shared_tokens]
        questions[prompt.id] = blake2b(msgspec.json.encode(content), digest_size=16).hexdigest()
    return Contents(questions, {prompt: prompts[prompt].reference for prompt in questions})


def question_changes(
    before: Contents, after: Contents, names: tuple[str, str], coverage: Coverage = "all"
) -> str | None:
    """How the questions of two runs differ, None where they do not.

    `coverage`: which of them must be the same: "all", or those of the prompts in "common", where
    longer runs draw more of them.
    """
    old, new = before.questions, after.questions
    if coverage == "none":
        return None
    if not old and not new:
        return (
            "neither run holds its prompts (prompts.jsonl), so nobody knows whether they were "
            "asked the same"
        )
    if coverage == "all" and Counter(old.values()) == Counter(new.values()):
        return None
    if not old.keys() & new.keys() and not set(old.values()) & set(new.values()):
        return "prompts differ: none is in both runs"
    changed = [prompt for prompt in old if prompt in new and old[prompt] != new[prompt]]
    words = (
        [(f"{len(changed)} of {len(new)} prompts ask something else (the first: {changed[0]})")]
        if changed
        else []
    )
    for name, mine, theirs in ((names[0], old, new), (names[1], new, old)):
        alone = [prompt for prompt in mine if prompt not in theirs]
        if alone and coverage == "all":
            words.append(
                f"{len(alone)} of {len(mine)} prompts are only in {name} (the first: {alone[0]})"
            )
    return f"prompts differ: {'; '.join(words)}" if words else None


def reference_changes(before: Contents, after: Contents) -> str | None:
    """How the references of the questions that both runs have differ, None where they do not."""
    old, new = (
        {(side.questions[p], r): p for p, r in side.references.items()} for side in (before, after)
    )
    both = set(before.questions.values()) & set(after.questions.values())
    changed, gone = (
        [
            prompt
            for (question, reference), prompt in mine.items()
            if question in both and (question, reference) not in theirs
        ]
        for mine, theirs in ((new, old), (old, new))
    )
    if not changed and not gone:
        return None
    n, first = max(len(changed), len(gone)), (changed or gone)[0]
    return (
        f"references differ: {n} of {len(after.references)} prompts have another (the first: "
        f"{first})"
    )
