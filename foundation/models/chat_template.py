"""Applies a model's chat template: prompts and answers as text and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foundation.data.examples import Example, PromptStyle, render
from foundation.data.messages import Message
from foundation.errors import BadInput

_NOT_RENDERED = frozenset({"role", "content", "tool_call_id"})
_ANCHORS = ("\n", "a", ":", " x")
"""Texts to put before an answer that is tokenized alone; no token may span the border."""


def templated(example: Example, style: PromptStyle | None, tokenizer: Any) -> tuple[str, str]:
    """The prompt up to the answer, and prompt with answer, both as the chat template renders them.

    Raises BadInput if the template refuses the messages or drops a part of them.
    """
    question, answer = render(example, style), example.answer
    prompt = worded(example, question, tokenizer, opening=True)
    whole = worded(example, [*question, answer], tokenizer)
    for key in sorted({key for message in (*question, answer) for key in _kept(message)}):
        without = [
            {name: value for name, value in m.items() if name != key or key not in _kept(m)}
            for m in (*question, answer)
        ]
        if _same(example, without, tokenizer, whole):
            raise BadInput(f"{example.where}: {_leaves_out(key)}")
    for message in question:
        if _is_left_out(example, message, question, tokenizer, prompt):
            raise BadInput(
                f"{example.where}: the model's chat template leaves out what the "
                f"{message['role']} says ({message['content'].strip()[:40]!r}); "
                "use a template that words it"
            )
    if example.tools and prompt == _attempt(example, question, tokenizer, opening=True, tools=()):
        raise BadInput(f"{example.where}: {_leaves_out('tools')}")
    return prompt, whole


def worded(
    example: Example, messages: Sequence[Message], tokenizer: Any, *, opening: bool = False
) -> str:
    """Messages as the chat template renders them. Raises BadInput.

    `opening` adds the beginning of the assistant's turn.
    """
    return _attempt(example, messages, tokenizer, opening=opening, tools=example.tools)


def tokens_in_place(
    tokenizer: Any, texts: Sequence[tuple[str, str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each prompt, and of its answer as tokenized behind that prompt.

    Each text is (where, prompt, answer). SentencePiece marks the beginning of a text with a space,
    so it would put one before an answer alone. One token may span the border, on a server too. Then
    the answer's tokens are those behind an anchor text that no token joins with it. Raises
    BadInput if a token joins the answer with every anchor.
    """
    if not texts:
        return []
    prompts = tokenizer([prompt for _, prompt, _ in texts], add_special_tokens=False)["input_ids"]
    wholes = tokenizer([prompt + answer for _, prompt, answer in texts], add_special_tokens=False)[
        "input_ids"
    ]
    return [
        (
            prompt,
            whole[len(prompt) :]
            if whole[: len(prompt)] == prompt
            else _apart(tokenizer, where, answer),
        )
        for (where, _, answer), prompt, whole in zip(texts, prompts, wholes, strict=True)
    ]


def _apart(tokenizer: Any, where: str, answer: str) -> list[int]:
    for anchor in _ANCHORS:
        before, both = tokenizer([anchor, anchor + answer], add_special_tokens=False)["input_ids"]
        if both[: len(before)] == before:
            ids: list[int] = both[len(before) :]
            return ids
    raise BadInput(
        f"{where}: the tokenizer joins {answer[:40]!r} with whatever stands before it, "
        "so it can't be learned as it is served"
    )


def _attempt(
    example: Example,
    messages: Sequence[Message],
    tokenizer: Any,
    *,
    opening: bool,
    tools: Sequence[dict[str, Any]],
) -> str:
    import jinja2

    try:
        text: str = tokenizer.apply_chat_template(
            list(messages), tools=list(tools) or None, tokenize=False, add_generation_prompt=opening
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise BadInput(
            f"{example.where}: the model's chat template refuses these messages ({error})"
        ) from None
    return text


def _same(example: Example, messages: Sequence[Message], tokenizer: Any, whole: str) -> bool:
    """Whether the template renders the messages to `whole`; False if it refuses them."""
    try:
        return worded(example, messages, tokenizer) == whole
    except BadInput:
        return False


def _is_left_out(
    example: Example, message: Message, question: Sequence[Message], tokenizer: Any, prompt: str
) -> bool:
    """Whether the prompt stays the same without a message's text, which templates may change."""
    text = message["content"].strip()
    if not text or (message["role"] in ("user", "assistant") and text in prompt):
        return False
    without = [{**each, "content": ""} if each is message else each for each in question]
    try:
        return worded(example, without, tokenizer, opening=True) == prompt
    except BadInput:
        return False


def _kept(message: Message) -> set[str]:
    """Keys whose text must show in the rendered prompt. A tool's name only repeats its call's."""
    return set(message) - _NOT_RENDERED - ({"name"} if message["role"] == "tool" else set())


def _leaves_out(key: str) -> str:
    return (
        f"the model's chat template leaves out {key!r}, so the model would never see it; "
        f"write data.ignore: [{key}] to learn without, or use a template that words it"
    )
