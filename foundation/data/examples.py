"""Examples: lines of a data file as one record, and the prompt styles that word them."""

from __future__ import annotations

import json
import random
import string
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from foundation.data.line_shapes import SHAPES, Reading, read_line
from foundation.data.messages import Message
from foundation.data.tables import read_rows
from foundation.errors import BadInput

_STANDARD_FIELDS = frozenset({"prompt", "input", "instruction", "system"})


@dataclass(frozen=True)
class Example:
    """One line of an examples file.

    `messages` are what is said up to the answer. `completion` is the answer's text, learned or scored against; empty where
    the line has none. `fields` are what a prompt template may name. `tools` are on offer to the assistant; `answer_keys` are
    what the answer has beside its text (tool_calls, reasoning_content, name). `weights`: by place in the messages (the answer
    stands behind the last), 0 where an answer of the assistant is not to be learned and 1 where the line says it is.
    """

    file: Path
    line: int
    messages: tuple[Message, ...]
    completion: str
    fields: Mapping[str, str]
    tools: tuple[dict[str, Any], ...] = ()
    answer_keys: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def reference(self) -> str | None:
        """The text to score an answer against; None where the line has none."""
        return self.completion or None

    @property
    def answer(self) -> Message:
        """The assistant's last message, whole."""
        return {"role": "assistant", "content": self.completion, **self.answer_keys}

    @cached_property
    def key(self) -> str:
        """The whole prompt in one form: system text, earlier turns, tools. Equal keys in two splits are a leak.

        Spaces, case, Unicode's ways to write one character (NFKC), and characters that nobody sees are evened out.
        """
        said = [f"{m['role']}: {m['content']}{_more(m)}" for m in self.messages]
        said += [
            f"{name}: {text}"
            for name, text in sorted(self.fields.items())
            if name not in _STANDARD_FIELDS
        ]
        return _even("\n".join([*said, *(json.dumps(tool, sort_keys=True) for tool in self.tools)]))


@dataclass(frozen=True)
class PromptStyle:
    """How a question is worded: templates with `{field}` places. A literal brace is doubled."""

    user: str
    system: str | None = None

    def render(self, example: Example) -> list[Message]:
        """Chat messages up to the answer.

        Raises BadInput where the template names a field the example lacks, or leaves out its system text or earlier turns.
        """
        try:
            user = self.user.format_map(example.fields)
            system = self.system.format_map(example.fields) if self.system is not None else None
        except KeyError as missing:
            raise BadInput(
                f"{example.where}: the prompt template names {{{missing.args[0]}}}, which this example lacks "
                f"(it has {', '.join(sorted(example.fields))})"
            ) from None
        if lost := self._loses(example):
            raise BadInput(f"{example.where}: the prompt style would drop {lost}")
        return [
            *([{"role": "system", "content": system}] if system else []),
            {"role": "user", "content": user},
        ]

    def _loses(self, example: Example) -> str | None:
        """What of an example's messages is not in the styled ones, and what to do about it."""
        systems = [m for m in example.messages if m["role"] == "system"]
        if any(m["content"].strip() for m in systems) and "system" not in self.fields():
            return "this example's system text; name {system} in the style, or ask without a style"
        if earlier := len(example.messages) - len(systems) - 1:
            turns = "message that comes" if earlier == 1 else "messages that come"
            return f"the {earlier} {turns} before this example's last question; ask without a style"
        more = [key for m in example.messages for key in m if key not in ("role", "content")]
        return (
            f"{more[0]!r} of this example's message; ask without a style, or write data.ignore: [{more[0]}]"
            if more
            else None
        )

    def fields(self) -> set[str]:
        """The field names the templates use. Raises ValueError on a stray brace."""
        formatter = string.Formatter()
        return {
            name
            for text in (self.user, self.system or "")
            for _, name, _, _ in formatter.parse(text)
            if name is not None
        }


def render(example: Example, style: PromptStyle | None) -> list[Message]:
    """The question in a style, or as the example itself words it."""
    return style.render(example) if style else list(example.messages)


def sample(examples: Sequence[Example], limit: int | None, seed: int = 0) -> list[Example]:
    """`limit` of the examples (None: all), as the seed picks them."""
    if limit is None or limit >= len(examples):
        return list(examples)
    return random.Random(seed).sample(list(examples), limit)


def read_examples(
    source: Path | str,
    columns: Mapping[str, str] | None = None,
    *,
    ignore: Collection[str] = (),
    fields: Collection[str] = (),
    encoding: str | None = None,
    answers: bool = True,
) -> list[Example]:
    """All examples of a file (JSON, `.csv`, `.tsv`, `.parquet`) or of a hub data set (`hub:ORG/NAME:SPLIT`).

    `columns` says which column of the source stands for which of ours: `{"prompt": "text", "completion": "label"}`. `ignore`
    names keys of lines and messages to leave out, `fields` those that a prompt style reads; any other key that has no meaning
    is an error. `encoding` is a text file's (None: UTF-8). Without `answers` a line may be a question alone. Raises BadInput
    that names file and line for anything malformed or empty.
    """
    file = Path(source)
    reading = Reading(columns or {}, frozenset(ignore), frozenset(fields), answers)
    examples = [_example(file, line, row, reading) for line, row in read_rows(source, encoding)]
    if not examples:
        raise BadInput(f"{file}: empty; write one example a line, as {SHAPES}")
    return examples


def _example(file: Path, number: int, row: Mapping[str, Any], reading: Reading) -> Example:
    line = read_line(f"{file}:{number}", row, reading)
    messages = line.conversation.messages
    if not line.answered:
        return Example(
            file, number, messages, "", line.fields, line.tools, {}, line.conversation.weights
        )
    answer = messages[-1]
    more = {key: value for key, value in answer.items() if key not in ("role", "content")}
    weights = line.conversation.weights
    return Example(
        file, number, messages[:-1], answer["content"], line.fields, line.tools, more, weights
    )


def _more(message: Message) -> str:
    more = {key: value for key, value in message.items() if key not in ("role", "content")}
    return f" {json.dumps(more, sort_keys=True)}" if more else ""


def _even(text: str) -> str:
    if not text.isascii():
        text = "".join(
            c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf"
        )
    return " ".join(text.casefold().split())
