"""The learned answers of a conversation, and their places in what the model sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from foundation.data.examples import Example
from foundation.errors import BadInput
from foundation.models.chat_template import worded

TrainOn = Literal["last", "all"]
Span = tuple[int, int]
"""First place, and the place after the last one."""


def learnable(example: Example, train_on: TrainOn) -> Example | None:
    """The example up to its last learned answer, or None: what comes after teaches nothing.

    Raises BadInput for an earlier answer of weight 1 where only the last is learned.
    """
    last = len(example.messages)
    if train_on == "last":
        if any(weight and place < last for place, weight in example.weights.items()):
            raise BadInput(
                f"{example.where}: weight: 1 asks for an earlier answer to be learned, "
                "and finetune.train_on is last; write train_on: all, or data.ignore: [weight]"
            )
        return None if example.weights.get(last) == 0 else example
    if not (places := _learned_places(example)):
        return None
    return example if places[-1] == last else _up_to(example, places[-1])


def earlier_count(example: Example) -> int:
    """How many answers before the last one could be learned."""
    return sum(place < len(example.messages) for place in _learned_places(example))


def earlier_answers(example: Example, prompt: str, tokenizer: Any) -> list[Span]:
    """The spans of characters in `prompt` where the example's learned earlier answers stand.

    `prompt` is the templated messages. A span reaches from where a server would begin to generate
    up to what the template writes next. Raises BadInput where the template words an answer
    otherwise once the conversation goes on: what is learned would not be what is served.
    """
    spans = []
    for place in _learned_places(example):
        if place == len(example.messages):
            continue
        before = worded(example, example.messages[:place], tokenizer, opening=True)
        after = worded(example, example.messages[: place + 1], tokenizer)
        end = _alike(prompt, after)
        answer = example.messages[place]["content"].strip()
        if (
            not prompt.startswith(before)
            or end <= len(before)
            or answer not in prompt[len(before) : end]
        ):
            raise BadInput(
                f"{example.where}: the model's chat template words the answer in "
                f"messages[{place}] otherwise once the conversation goes on, so it can't be "
                "learned as it is served; write finetune.train_on: last"
            )
        spans.append((len(before), end))
    return spans


def token_spans(
    prompt: str, tokens: Sequence[int], spans: Sequence[Span], tokenizer: Any, ends: frozenset[int]
) -> list[Span]:
    """The tokens of each span of characters, up to its last end-of-turn token.

    A token that begins before the span is left out, as on a server. Raises ValueError for a span
    without an end of turn, and for a tokenizer that does not know the places of its tokens.
    """
    if not spans:
        return []
    if not tokenizer.is_fast:
        raise ValueError(
            "its tokenizer does not tell where tokens stand in a text, which train_on: all needs"
        )
    places = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    learned = []
    for start, stop in spans:
        inside = [i for i, (first, last) in enumerate(places) if start <= first < last <= stop]
        end_tokens = [i for i in inside if tokens[i] in ends]
        if not end_tokens:
            raise ValueError(
                "the chat template writes no end of turn after an earlier answer, "
                "which train_on: all needs"
            )
        learned.append((inside[0], end_tokens[-1] + 1))
    return learned


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _learned_places(example: Example) -> list[int]:
    """The places of learned answers; the example's own answer is behind its last message."""
    messages = [*example.messages, example.answer]
    return [
        place
        for place, m in enumerate(messages)
        if m["role"] == "assistant" and example.weights.get(place, 1)
    ]


def _up_to(example: Example, place: int) -> Example:
    before, answer = example.messages[:place], example.messages[place]
    question = next((m["content"] for m in reversed(before) if m["role"] == "user"), "")
    return replace(
        example,
        messages=before,
        completion=answer["content"],
        fields={**example.fields, "prompt": question, "input": question},
        answer_keys={key: value for key, value in answer.items() if key not in ("role", "content")},
        weights={at: weight for at, weight in example.weights.items() if at <= place},
    )
