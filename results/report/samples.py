"""A few real answers side by side, chosen by rule and not by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foundation.run.records import Prompt

EXCERPT = 420  # characters of a question or an answer that are shown


@dataclass(frozen=True)
class Answer:
    """What some variants answered alike, case and spaces aside. `text` None: no answer. `matches`: it is the reference."""

    variants: list[str]
    text: str | None
    matches: bool


@dataclass(frozen=True)
class Sample:
    prompt: str
    question: str
    reference: str | None
    answers: list[Answer]


def choose(
    prompts: Mapping[str, Prompt], answers: Mapping[str, Mapping[str, str]], count: int = 5
) -> list[Sample]:
    """Up to `count` prompts: first those with the most different answers among variants, then in the order of the prompts file.

    `answers` is by variant, then by prompt id. A prompt that not every variant answered comes after those that all did.
    """
    asked = [
        p
        for p in prompts.values()
        if p.set == "eval" and any(p.id in given for given in answers.values())
    ]
    ranked = sorted(
        asked,
        key=lambda p: (
            sum(p.id not in given for given in answers.values()),
            -_different(p, answers),
        ),
    )
    return [_sample(prompt, answers) for prompt in ranked[:count]]


def _different(prompt: Prompt, answers: Mapping[str, Mapping[str, str]]) -> int:
    return len({_plain(given[prompt.id]) for given in answers.values() if prompt.id in given})


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _sample(prompt: Prompt, answers: Mapping[str, Mapping[str, str]]) -> Sample:
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
    return Sample(prompt.id, excerpt(_question(prompt)), prompt.reference, shown)


def _question(prompt: Prompt) -> str:
    """The last user message in the shortest wording: the styles differ in instructions, not in what is asked."""
    wordings = [m["content"] for messages in prompt.messages.values() for m in messages[-1:]]
    return min(wordings, key=len, default="")


def excerpt(text: str) -> str:
    text = text.strip()
    return text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + " …"
