"""Examples as tokens: the chat template applied, prompt and completion apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.turns import Span, TrainOn, earlier_answers, learnable, token_spans
from foundation.data.examples import Example, PromptStyle
from foundation.errors import BadInput
from foundation.models.chat_template import templated, tokens_in_place

MIN_SHARED_PREFIX = 8
"""Tokens. A shorter prefix costs more to compute apart than it saves."""


@dataclass(frozen=True)
class ExampleTokens:
    """One example as the model sees it.

    The loss covers `completion`, which is the text `answer` and the end-of-turn token, and the
    `earlier` answers: spans of the prompt's tokens, in order.
    """

    where: str
    prompt: list[int]
    completion: list[int]
    answer: str = ""
    earlier: tuple[Span, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)

    @property
    def learned(self) -> list[Span]:
        """The spans of prompt and completion that the loss covers."""
        return [*self.earlier, (len(self.prompt), len(self))]

    def labels(self, ignored: int) -> list[int]:
        """The token at every place that is learned, `ignored` elsewhere."""
        labels = [ignored] * len(self.prompt) + self.completion
        for start, stop in self.earlier:
            labels[start:stop] = self.prompt[start:stop]
        return labels


def encode(
    examples: Sequence[Example],
    style: PromptStyle | None,
    tokenizer: Any,
    ends: frozenset[int],
    train_on: TrainOn = "last",
) -> list[ExampleTokens]:
    """Prompt and completion of each example with a learned answer, by the model's chat template.

    The prompt is what a server receives: the messages and the opening of the assistant's turn. The
    completion is what the template puts after it, up to the end-of-turn token. Many templates add a
    newline there, which is never generated, so it is not learned.
    """
    kept = [cut for example in examples if (cut := learnable(example, train_on))]
    texts = [(example.where, *_rendered(example, style, tokenizer)) for example in kept]
    return [
        ExampleTokens(
            example.where,
            prompt,
            _through_end(answer, ends, example, tokenizer),
            example.completion,
            _earlier(example, text, prompt, tokenizer, ends) if train_on == "all" else (),
        )
        for example, (_, text, _), (prompt, answer) in zip(
            kept, texts, tokens_in_place(tokenizer, texts), strict=True
        )
    ]


def shared_prefix(tokens: Sequence[ExampleTokens]) -> list[int]:
    """The tokens that every prompt begins with; empty where sharing them does not pay.

    Each prompt keeps at least one token of its own before its first learned answer.
    """
    if len(tokens) < 2:
        return []
    # What the first and the last in order share, all between them share.
    first, last = min(t.prompt for t in tokens), max(t.prompt for t in tokens)
    longest = min(t.learned[0][0] for t in tokens) - 1
    length = next((i for i in range(longest) if first[i] != last[i]), longest)
    return first[:length] if length >= MIN_SHARED_PREFIX else []


def _rendered(example: Example, style: PromptStyle | None, tokenizer: Any) -> tuple[str, str]:
    prompt, whole = templated(example, style, tokenizer)
    if not whole.startswith(prompt):
        raise BadInput(
            f"{example.where}: the model's chat template words the question otherwise "
            "once it is answered, so what is learned would not be what is served; "
            "use a template that only appends the answer"
        )
    answer = whole[len(prompt) :]
    if example.completion.strip() not in answer:
        raise BadInput(
            f"{example.where}: the model's chat template drops the assistant's answer, "
            "so nothing would be learned"
        )
    return prompt, answer


def _earlier(
    example: Example, text: str, prompt: list[int], tokenizer: Any, ends: frozenset[int]
) -> tuple[Span, ...]:
    spans = earlier_answers(example, text, tokenizer)
    try:
        return tuple(token_spans(text, prompt, spans, tokenizer, ends))
    except ValueError as error:
        raise BadInput(f"{example.where}: {error}; write finetune.train_on: last") from None


def _through_end(
    answer: list[int], ends: frozenset[int], example: Example, tokenizer: Any
) -> list[int]:
    last = max((i for i, token in enumerate(answer) if token in ends), default=None)
    if last is None:
        names = " or ".join(sorted(tokenizer.convert_ids_to_tokens(sorted(ends))))
        raise BadInput(
            f"{example.where}: the model's chat template writes no end of turn ({names}) "
            "after the answer: the tuned model would never stop"
        )
    return answer[: last + 1]
