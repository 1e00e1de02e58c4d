"""Examples as a server sees them, as token ids, for calibration and recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.data.examples import Example, PromptStyle, render
from foundation.models.chat_template import templated, tokens_in_place
from foundation.models.model import ModelRef


@dataclass(frozen=True)
class TemplatedText:
    """Token ids of a prompt and its answer, end of turn included; `answer` is its first place."""

    ids: list[int]
    answer: int


def tokenize(
    model: ModelRef, examples: Sequence[Example], style: PromptStyle | None, longest: int
) -> list[TemplatedText]:
    """One text an example, cut after `longest` tokens.

    A model without a chat template gets prompt and answer as they are.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path)
    return [_tokenized(tokenizer, example, style, longest) for example in examples]


def _tokenized(
    tokenizer: Any, example: Example, style: PromptStyle | None, longest: int
) -> TemplatedText:
    prompt, answer = _rendered(tokenizer, example, style)
    [(prompt_ids, answer_ids)] = tokens_in_place(tokenizer, [(example.where, prompt, answer)])
    ids = [*prompt_ids, *answer_ids][:longest]
    return TemplatedText(ids, min(len(prompt_ids), len(ids)))


def _rendered(tokenizer: Any, example: Example, style: PromptStyle | None) -> tuple[str, str]:
    if not tokenizer.chat_template:
        lines = [message["content"] for message in render(example, style)]
        return "\n".join(lines) + "\n", example.completion
    prompt, whole = templated(example, style, tokenizer)
    # Many templates end with a newline that is never generated.
    answer = whole.removeprefix(prompt) if whole.startswith(prompt) else example.completion
    return prompt, answer.rstrip("\n")
