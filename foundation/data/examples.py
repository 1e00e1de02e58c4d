"""Examples, the records of a data file's lines, and the prompt styles that render them."""

from __future__ import annotations

import json
import random
import re
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

_FIELD = re.compile(r"(?!\d+$)[^.\[\]]+")
_STANDARD_FIELDS = frozenset({"prompt", "input", "instruction", "system"})


@dataclass(frozen=True)
class Example:
    """One line of an examples file.

    `messages`: all messages before the answer.
    `completion`: the answer's text, to learn or to score against; empty without an answer.
    `fields`: texts that a prompt template may name.
    `tools`: functions that the assistant may call.
    `answer_keys`: the answer's other keys (tool_calls, reasoning_content, name).
    `weights`: by position of an assistant's message, 0 if it is not to be learned, 1 if the line
    says that it is. The answer's position is behind the last message.
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
        """File and line, for errors."""
        return f"{self.file}:{self.line}"

    @property
    def reference(self) -> str | None:
        """The text to score an answer against; None if the line has no answer."""
        return self.completion or None

    @property
    def answer(self) -> Message:
        """The assistant's last message, whole."""
        return {"role": "assistant", "content": self.completion, **self.answer_keys}

    @cached_property
    def key(self) -> str:
        """The whole prompt, normalized: system text, earlier turns, fields, tools.

        Equal keys in two splits are a leak. The key ignores spaces, case, Unicode's variants of a
        character (NFKC), and invisible characters.
        """
        lines = [f"{m['role']}: {m['content']}{_other_keys(m)}" for m in self.messages]
        lines += [
            f"{name}: {text}"
            for name, text in sorted(self.fields.items())
            if name not in _STANDARD_FIELDS
        ]
        lines += [json.dumps(tool, sort_keys=True) for tool in self.tools]
        return _normalized("\n".join(lines))


@dataclass(frozen=True)
class PromptStyle:
    """Templates with `{field}` placeholders that render a prompt. A literal brace is doubled."""

    user: str
    system: str | None = None

    def render(self, example: Example) -> list[Message]:
        """Chat messages up to the answer.

        Raises BadInput if a template names a field that the example lacks, or drops its system
        text or earlier turns.
        """
        try:
            user = self.user.format_map(example.fields)
            system = self.system.format_map(example.fields) if self.system is not None else None
        except KeyError as missing:
            raise BadInput(
                f"{example.where}: the prompt template names {{{missing.args[0]}}}, "
                f"which this example lacks (it has {', '.join(sorted(example.fields))})"
            ) from None
        if lost := self._loses(example):
            raise BadInput(f"{example.where}: the prompt style would drop {lost}")
        return [
            *([{"role": "system", "content": system}] if system else []),
            {"role": "user", "content": user},
        ]

    def _loses(self, example: Example) -> str | None:
        """The part of an example's messages that the style drops, with a remedy; or None."""
        systems = [m for m in example.messages if m["role"] == "system"]
        if any(m["content"].strip() for m in systems) and "system" not in self.fields():
            return "this example's system text; name {system} in the style, or ask without a style"
        if earlier := len(example.messages) - len(systems) - 1:
            turns = "message that comes" if earlier == 1 else "messages that come"
            return f"the {earlier} {turns} before this example's last question; ask without a style"
        others = (key for m in example.messages for key in m if key not in ("role", "content"))
        if (key := next(others, None)) is None:
            return None
        return (
            f"{key!r} of this example's message; ask without a style, or write data.ignore: [{key}]"
        )

    def fields(self) -> set[str]:
        """The field names in the templates.

        Raises ValueError for a stray brace, and for braces that hold more than a name: Python's
        format language reaches attributes, and its widths fill the memory.
        """
        names = set()
        for text in (self.user, self.system or ""):
            for _, name, width, conversion in string.Formatter().parse(text):
                if name is None:
                    continue
                if width or conversion or not _FIELD.fullmatch(name):
                    raise ValueError(f"{{{name[:40]}}}: write the name of a field alone")
                names.add(name)
        return names


def render(example: Example, style: PromptStyle | None) -> list[Message]:
    """The prompt in a style, or the example's own messages."""
    return style.render(example) if style else list(example.messages)


def sample(examples: Sequence[Example], limit: int | None, seed: int = 0) -> list[Example]:
    """A random sample of `limit` examples (None: all), by the seed."""
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
    """All examples of a file (JSON, CSV, TSV, Parquet) or a hub data set (`hub:ORG/NAME:SPLIT`).

    `columns`: our column to the source's: `{"prompt": "text", "completion": "label"}`.
    `ignore`: keys of lines and messages to leave out.
    `fields`: keys that a prompt style reads. Any other key without a meaning is an error.
    `encoding`: a text file's encoding (None: UTF-8).
    `answers`: each line must have an answer; else a line may be a prompt alone.
    Raises BadInput that names file and line for anything malformed or empty.
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
    keys = {key: value for key, value in answer.items() if key not in ("role", "content")}
    weights = line.conversation.weights
    return Example(
        file, number, messages[:-1], answer["content"], line.fields, line.tools, keys, weights
    )


def _other_keys(message: Message) -> str:
    others = {key: value for key, value in message.items() if key not in ("role", "content")}
    return f" {json.dumps(others, sort_keys=True)}" if others else ""


def _normalized(text: str) -> str:
    if not text.isascii():
        text = "".join(
            c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf"
        )
    return " ".join(text.casefold().split())
