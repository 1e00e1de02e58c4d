"""A few real answers side by side, chosen by rule and not by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foundation.run.records import Prompt

EXCERPT = 420  # characters of a question or an answer that are shown


@dataclass(frozen=True)
class Answer:
    """What some variants answered alike, case and spaces aside.

    `text` None: no answer. `matches`: it is the reference.
    """

    variants: list[str]
    text: str | None
    matches: bool


@dataclass(frozen=True)
class AnswerSample:
    """A prompt with the answers of the variants."""

    prompt: str
    question: str
    reference: str | None
    answers: list[Answer]


def choose(
    prompts: Mapping[str, Prompt], answers: Mapping[str, Mapping[str, str]], count: int = 5
) -> list[AnswerSample]:
    """Up to `count` prompts, those with the most different answers among variants first."""
    candidates = [
        p
        for p in prompts.values()
        if p.set == "eval" and any(p.id in replies for replies in answers.values())
    ]
    ranked = sorted(
        candidates,
        key=lambda p: (
            sum(p.id not in replies for replies in answers.values()),
            -_different(p, answers),
        ),
    )
    return [_sample(prompt, answers) for prompt in ranked[:count]]


def _different(prompt: Prompt, answers: Mapping[str, Mapping[str, str]]) -> int:
    return len({_plain(replies[prompt.id]) for replies in answers.values() if prompt.id in replies})


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _sample(prompt: Prompt, answers: Mapping[str, Mapping[str, str]]) -> AnswerSample:
    alike: dict[str | None, list[str]] = {}
    for variant, given in answers.items():
        alike.setdefault(_plain(given[prompt.id]) if prompt.id in given else None, []).append(
            variant
        )
    reference = None if prompt.reference is None else _plain(prompt.reference)
    shown = [
        Answer(
            variants,
            None if text is None else excerpt(answers[variants[0]][prompt.id]),
            text is not None and text == reference,
        )
        for text, variants in alike.items()
    ]
    return AnswerSample(prompt.id, excerpt(_question(prompt)), prompt.reference, shown)


def _question(prompt: Prompt) -> str:
    """The last user message in the shortest style: styles differ in instructions only."""
    wordings = [m["content"] for messages in prompt.messages.values() for m in messages[-1:]]
    return min(wordings, key=len, default="")


def excerpt(text: str) -> str:
    """The beginning of a long text."""
    text = text.strip()
    return text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + " …"
