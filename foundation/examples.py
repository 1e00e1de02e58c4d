"""Examples: three shapes in, one record out, and the prompt styles that word them.

Shapes: `{"messages": [...]}` (the last message is the assistant's answer), `{"prompt", "completion"}`, and
`{"instruction", "input", "output"}`: those of TRL and Alpaca.
"""

from __future__ import annotations

import json
import math
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.section import nearest
from foundation.tables import HUB, Row, csv_rows, hub_rows, parquet_rows

Message = dict[str, str]
_SHAPES = '{"messages": [...]}, {"prompt", "completion"} or {"instruction", "input", "output"}'


@dataclass(frozen=True)
class Example:
    """One line of an examples file. `fields` are what a prompt template may name; `completion` is learned, or scored against."""

    file: Path
    line: int
    messages: tuple[Message, ...]
    completion: str
    fields: Mapping[str, str]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def key(self) -> str:
        """The question, spaces and case evened out: equal keys in two splits are a leak."""
        return " ".join(" ".join(m["content"] for m in self.messages if m["role"] == "user").lower().split())


@dataclass(frozen=True)
class PromptStyle:
    """How a question is worded: templates with `{field}` places. A literal brace is doubled."""

    user: str
    system: str | None = None

    def render(self, example: Example) -> list[Message]:
        """Chat messages up to the answer. Raises BadInput where the template names a field the example lacks."""
        try:
            user = self.user.format_map(example.fields)
            system = self.system.format_map(example.fields) if self.system is not None else None
        except KeyError as missing:
            raise BadInput(
                f"{example.where}: the prompt template names {{{missing.args[0]}}}, which this example lacks "
                f"(it has {', '.join(sorted(example.fields))})"
            ) from None
        return [
            *([{"role": "system", "content": system}] if system else []),
            {"role": "user", "content": user},
        ]

    def fields(self) -> set[str]:
        """The field names the templates use. Raises ValueError on a stray brace."""
        formatter = string.Formatter()
        return {name for text in (self.user, self.system or "") for _, name, _, _ in formatter.parse(text) if name is not None}


def render(example: Example, style: PromptStyle | None) -> list[Message]:
    """The question in a style, or as the example itself words it."""
    return style.render(example) if style else list(example.messages)


def sample(examples: Sequence[Example], limit: int | None, seed: int = 0) -> list[Example]:
    """`limit` of the examples (None: all), as the seed picks them."""
    if limit is None or limit >= len(examples):
        return list(examples)
    return random.Random(seed).sample(list(examples), limit)


def templated(example: Example, style: PromptStyle | None, tokenizer: Any) -> tuple[str, str]:
    """The question up to where the answer begins, and question and answer, both as the chat template words them.

    Raises BadInput where the template refuses the messages.
    """
    import jinja2

    question = render(example, style)
    try:
        prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        answered = [*question, {"role": "assistant", "content": example.completion}]
        return prompt, tokenizer.apply_chat_template(answered, tokenize=False)
    except jinja2.TemplateError as error:
        raise BadInput(f"{example.where}: the model's chat template refuses these messages ({error})") from None


def read_examples(source: Path | str, columns: Mapping[str, str] | None = None) -> list[Example]:
    """All examples of a file (JSON lines, `.csv`, `.parquet`) or of a hub data set (`hub:ORG/NAME:SPLIT`).

    `columns` says which column of the source stands for which of ours: `{"prompt": "text", "completion": "label"}`. Raises
    BadInput that names file and line for anything malformed or empty.
    """
    file = Path(source)
    try:
        rows = list(_rows(source))
        examples = [_example(file, line, _renamed(f"{file}:{line}", row, columns or {})) for line, row in rows]
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: can't be read as UTF-8 text ({error})") from error
    if not examples:
        raise BadInput(f"{file}: empty; write one example a line, as {_SHAPES}")
    return examples


def _rows(source: Path | str) -> Iterator[Row]:
    if isinstance(source, str) and source.startswith(HUB):
        return hub_rows(source)
    file = Path(source)
    readers = {".csv": csv_rows, ".parquet": parquet_rows}
    return readers.get(file.suffix.lower(), _json_lines)(file)


def _json_lines(file: Path) -> Iterator[Row]:
    text = file.read_text(encoding="utf-8")
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        where = f"{file}:{number}"
        if not line.strip():
            raise BadInput(f"{where}: empty line; remove it, or write an example as {_SHAPES}")
        try:
            row = json.loads(line, parse_int=_Number, parse_float=_Number)
        except ValueError as error:
            raise BadInput(f"{where}: not JSON ({error}); write one example a line") from None
        if not isinstance(row, dict):
            raise BadInput(f"{where}: not a JSON object; write {_SHAPES}")
        yield number, row


@dataclass(frozen=True)
class _Number:
    """A number of a JSON text, as it is written there: a label 1.0 stays "1.0"."""

    text: str

    def __repr__(self) -> str:
        return self.text


def _renamed(where: str, row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    for theirs in columns.values():
        if theirs not in row:
            raise BadInput(f"{where}: data.columns names {theirs!r}, which is no column{nearest(theirs, map(str, row))}")
    return {**row, **{ours: row[theirs] for ours, theirs in columns.items()}}


def _example(file: Path, line: int, row: dict[str, Any]) -> Example:
    where = f"{file}:{line}"
    if "messages" in row:
        return _from_messages(file, line, row["messages"])
    if "prompt" in row and "completion" in row:
        prompt, completion = _text(where, row, "prompt"), _answer_text(where, row, "completion")
        fields = {"prompt": prompt, "input": prompt}
        return Example(
            file,
            line,
            ({"role": "user", "content": prompt},),
            _answer(where, "completion", completion),
            fields,
        )
    if "instruction" in row and "output" in row:
        instruction, answer = _text(where, row, "instruction"), _answer_text(where, row, "output")
        given = _text(where, row, "input") if row.get("input") else ""
        question = f"{instruction}\n\n{given}" if given else instruction
        fields = {"instruction": instruction, "input": given, "prompt": question}
        return Example(file, line, ({"role": "user", "content": question},), _answer(where, "output", answer), fields)
    raise BadInput(f"{where}: fields {', '.join(sorted(map(str, row))) or 'none'}; write {_SHAPES}")


def _from_messages(file: Path, line: int, messages: object) -> Example:
    where = f"{file}:{line}: messages"
    if not isinstance(messages, list) or len(messages) < 2:
        raise BadInput(f"{where}: write a list of at least a user's and an assistant's message")
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise BadInput(f'{where}[{position}]: write {{"role": "user", "content": "..."}}')
        if message["role"] not in ("system", "user", "assistant"):
            raise BadInput(f"{where}[{position}].role: {message['role']!r}; write system, user or assistant")
    if messages[-1]["role"] != "assistant":
        raise BadInput(f"{where}: the last message is the {messages[-1]['role']}'s; end with the assistant's answer")
    turns = tuple({"role": m["role"], "content": m["content"]} for m in messages[:-1])
    asked = [m["content"] for m in turns if m["role"] == "user"]
    if not asked:
        raise BadInput(f"{where}: no user message before the answer")
    fields = {"prompt": asked[-1], "input": asked[-1]}
    return Example(file, line, turns, _answer(where, "content", messages[-1]["content"]), fields)


def _text(where: str, row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}: {key}: write a text that is not empty, not {value!r}")
    return value


def _answer_text(where: str, row: dict[str, Any], key: str) -> str:
    """An answer's text. A number or a truth value counts as JSON writes it: `true`, `5`; what is missing is no answer."""
    value = row.get(key)
    if isinstance(value, _Number):
        value = value.text
    elif isinstance(value, bool | int | float) and math.isfinite(value):
        value = json.dumps(value)
    return _text(where, {key: value}, key)


def _answer(where: str, key: str, value: str) -> str:
    if not value.strip():
        raise BadInput(f"{where}: {key}: the answer is empty")
    return value
