"""Examples as a server sees them: the chat template applied, as token ids. What calibrates, and what recovery is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.data.examples import Example, PromptStyle, render
from foundation.models.chat_template import templated, tokens_in_place
from foundation.models.model import ModelRef


@dataclass(frozen=True)
class Text:
    """A question and its answer, end of turn included: token ids, and where in them the answer begins."""

    ids: list[int]
    answer: int


def tokenize(
    model: ModelRef, examples: Sequence[Example], style: PromptStyle | None, longest: int
) -> list[Text]:
    """One text an example, cut behind `longest` tokens. A model without a chat template gets question and answer as they are."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path)
    return [_tokenized(tokenizer, example, style, longest) for example in examples]


def _tokenized(tokenizer: Any, example: Example, style: PromptStyle | None, longest: int) -> Text:
    prompt, answer = _rendered(tokenizer, example, style)
    [(asked, given)] = tokens_in_place(tokenizer, [(example.where, prompt, answer)])
    ids = [*asked, *given][:longest]
    return Text(ids, min(len(asked), len(ids)))


def _rendered(tokenizer: Any, example: Example, style: PromptStyle | None) -> tuple[str, str]:
    if not tokenizer.chat_template:
        return "\n".join(
            message["content"] for message in render(example, style)
        ) + "\n", example.completion
    prompt, whole = templated(example, style, tokenizer)
    # Many templates end with a newline that is never generated.
    answer = whole.removeprefix(prompt) if whole.startswith(prompt) else example.completion
    return prompt, answer.rstrip("\n")
