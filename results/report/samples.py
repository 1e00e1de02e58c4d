"""A few real answers side by side, which a rule chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foundation.run.records import Prompt

EXCERPT = 420  # characters of a question or an answer


@dataclass(frozen=True)
class Answer:
    """An answer that `variants` share, case and spaces aside.

    `text` is None where they have no answer. `matches`: the answer is the reference.
    """

    variants: list[str]
    text: str | None
    matches: bool


@dataclass(frozen=True)
class AnswerSample:
    """One prompt, its reference, and the variants' different answers."""

    prompt: str
    question: str
    reference: str | None
    answers: list[Answer]


def choose(
    prompts: Mapping[str, Prompt], answers: Mapping[str, Mapping[str, str]], count: int = 5
) -> list[AnswerSample]:
    """Up to `count` prompts, those with the most different answers among variants first.

    Prompts that every variant answered come before the others. Equal ones keep the order of the
    prompts file. `answers` is by variant, then by prompt id.
    """
    answered = [
        prompt
        for prompt in prompts.values()
        if prompt.set == "eval" and any(prompt.id in texts for texts in answers.values())
    ]
    ranked = sorted(
        answered,
        key=lambda prompt: (
            sum(prompt.id not in texts for texts in answers.values()),
            -_different(prompt, answers),
        ),
    )
    return [_sample(prompt, answers) for prompt in ranked[:count]]


def _different(prompt: Prompt, answers: Mapping[str, Mapping[str, str]]) -> int:
    return len({_plain(texts[prompt.id]) for texts in answers.values() if prompt.id in texts})


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _sample(prompt: Prompt, answers: Mapping[str, Mapping[str, str]]) -> AnswerSample:
    variants_by_text: dict[str | None, list[str]] = {}
    for variant, texts in answers.items():
        text = _plain(texts[prompt.id]) if prompt.id in texts else None
        variants_by_text.setdefault(text, []).append(variant)
    reference = None if prompt.reference is None else _plain(prompt.reference)
    different = [
        Answer(
            variants,
            None if text is None else excerpt(answers[variants[0]][prompt.id]),
            text is not None and text == reference,
        )
        for text, variants in variants_by_text.items()
    ]
    return AnswerSample(prompt.id, excerpt(_question(prompt)), prompt.reference, different)


def _question(prompt: Prompt) -> str:
    """The last user message of the prompt style with the shortest one.

    The styles differ in their instructions, not in the question.
    """
    wordings = [m["content"] for messages in prompt.messages.values() for m in messages[-1:]]
    return min(wordings, key=len, default="")


def excerpt(text: str) -> str:
    """The text, or its first `EXCERPT` characters."""
    text = text.strip()
    return text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + " …"
