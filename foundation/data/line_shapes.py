"""Reads data lines of different shapes into conversations.

The shapes: messages (OpenAI, TRL), `conversations` (ShareGPT), prompt and completion (TRL, texts or
message lists), and instruction, input, output (Alpaca). Every key of a line is read, ignored by
name, or an error.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foundation.data.json_rows import JsonNumber
from foundation.data.messages import Conversation, Message, as_list, read_messages, read_tools
from foundation.errors import BadInput
from foundation.section import nearest

SHAPES = '{"messages": [...]}, {"prompt", "completion"} or {"instruction", "input", "output"}'
_MOST_NAMES = 12
_NAMES_A_LINE = frozenset({"id", "__index_level_0__"})
"""Keys that only identify a line: ignored, and no error. pandas writes the second."""


@dataclass(frozen=True)
class Reading:
    """How to read the lines of a file.

    `columns`: our column to the file's (`{"prompt": "text"}`).
    `ignore`: keys of lines and messages to leave out.
    `fields`: keys that a prompt style names.
    `answers`: each line must have an answer.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    ignore: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    answers: bool = True


@dataclass(frozen=True)
class Line:
    """One line. If `answered`, the answer is the last message. `fields` are for prompt styles."""

    conversation: Conversation
    answered: bool
    fields: Mapping[str, str]
    tools: tuple[dict[str, Any], ...] = ()


def read_line(where: str, row: Mapping[str, Any], reading: Reading) -> Line:
    """Read the line at `where`. Raises BadInput that names the key and what to write instead."""
    row = _renamed(where, row, reading)
    shape = _shape(where, row, reading.answers)
    values = {key: value for key, value in row.items() if value is not None}
    extra = {key: values.pop(key) for key in reading.fields - _OURS if key in values}
    if unread := [
        key for key in values if key not in _SHAPE_KEYS[shape] and key not in _NAMES_A_LINE
    ]:
        raise BadInput(
            f"{where}: nothing reads {_names(unread)} beside "
            f"{_names(_SHAPE_KEYS[shape] & set(values))}; write data.ignore: [{_names(unread)}] "
            "(dyno load: --ignore) to leave that out, or data.columns to say what it stands for"
        )
    line = _READERS[shape](where, values, reading)
    tools = read_tools(f"{where}: tools", values["tools"]) if "tools" in values else ()
    fields = {key: _text(where, {key: _written(value)}, key) for key, value in extra.items()}
    return Line(line.conversation, line.answered, {**line.fields, **fields}, tools)


def _shape(where: str, row: Mapping[str, Any], answers: bool) -> str:
    """The key that tells a line's shape. Without `answers` a prompt alone is enough."""
    for key in ("messages", "conversations"):
        if row.get(key) is not None:
            return key
    for question, answer in (("prompt", "completion"), ("instruction", "output")):
        if row.get(question) is not None and (answer in row or not answers):
            return question
    case = {key: name for name in row for key in _OURS if str(name).lower() == key and name != key}
    hint = (
        ", ".join(f"{ours}: {theirs}" for ours, theirs in sorted(case.items()))
        or "prompt: ..., completion: ..."
    )
    raise BadInput(
        f"{where}: fields {_names(row) or 'none'}; write {SHAPES}, "
        f"or name the columns: data.columns: {{{hint}}}"
    )


def _renamed(where: str, row: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    for ours, theirs in reading.columns.items():
        if theirs not in row:
            raise BadInput(
                f"{where}: data.columns names {theirs!r}, "
                f"which is no column{nearest(theirs, map(str, row))}"
            )
        if (
            ours in row
            and ours != theirs
            and ours not in reading.ignore
            and ours not in reading.columns.values()
        ):
            raise BadInput(
                f"{where}: there is a column {ours!r} beside {theirs!r}, "
                "which data.columns puts in its place; "
                f"write data.ignore: [{ours}] to leave it out"
            )
    moved = set(reading.columns.values()) | (set(reading.columns) & reading.ignore)
    kept = {
        key: value for key, value in row.items() if key not in moved and key not in reading.ignore
    }
    return kept | {ours: row[theirs] for ours, theirs in reading.columns.items()}


def _from_messages(where: str, values: Mapping[str, Any], reading: Reading) -> Line:
    key = "messages" if "messages" in values else "conversations"
    place = f"{where}: {key}"
    return _conversation_line(
        where, place, values, read_messages(place, values[key], reading.ignore), reading
    )


def _from_prompt(where: str, values: Mapping[str, Any], reading: Reading) -> Line:
    if any(
        isinstance(value, list) and value for value in (values["prompt"], values.get("completion"))
    ):
        return _from_lists(where, values, reading)
    prompt = _text(where, values, "prompt")
    fields = {"prompt": prompt, "input": prompt}
    return _prompt_line(
        where, values, prompt, fields, "completion" if _has(values, "completion", reading) else None
    )


def _from_instruction(where: str, values: Mapping[str, Any], reading: Reading) -> Line:
    instruction = _text(where, values, "instruction")
    blank = isinstance(values.get("input", ""), str) and not values.get("input", "").strip()
    more = "" if blank else _text(where, values, "input")
    question = f"{instruction}\n\n{more}" if more else instruction
    fields = {"instruction": instruction, "input": more, "prompt": question}
    return _prompt_line(
        where, values, question, fields, "output" if _has(values, "output", reading) else None
    )


def _from_lists(where: str, values: Mapping[str, Any], reading: Reading) -> Line:
    """TRL's conversational prompt and completion; either may be a text."""
    parts = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = values.get(key, [])
        place, listed = (
            f"{where}: {key}",
            [{"role": role, "content": value}] if isinstance(value, str) else value,
        )
        parts.append(read_messages(place, listed, reading.ignore))
    prompt, answer = (part.messages for part in parts)
    if "completion" in values and [message["role"] for message in answer] != ["assistant"]:
        raise BadInput(
            f"{where}: completion: write one message, the assistant's; "
            "what comes before it belongs to prompt"
        )
    if "completion" not in values and prompt and prompt[-1]["role"] == "assistant":
        raise BadInput(
            f"{where}: prompt: ends with the assistant's message; write that as completion"
        )
    weights = dict(parts[0].weights) | {
        len(prompt) + place: weight for place, weight in parts[1].weights.items()
    }
    return _conversation_line(
        where, f"{where}: prompt", values, Conversation((*prompt, *answer), weights), reading
    )


def _prompt_line(
    where: str, values: Mapping[str, Any], question: str, fields: dict[str, str], key: str | None
) -> Line:
    """A prompt in one text, after `system` and `history`. `key`: the answer's; None without one."""
    messages: list[Message] = [*_history(where, values), {"role": "user", "content": question}]
    if key:
        messages.append(
            {"role": "assistant", "content": _text(where, {key: _written(values.get(key))}, key)}
        )
    conversation = _with_system(where, values, Conversation(tuple(messages), {}))
    return Line(conversation, key is not None, fields | _system_field(conversation))


def _has(values: Mapping[str, Any], answer: str, reading: Reading) -> bool:
    """Whether to read an answer; if answers are required, a missing one is an error."""
    return reading.answers or answer in values


def _history(where: str, values: Mapping[str, Any]) -> list[Message]:
    """LLaMA-Factory's earlier turns: pairs of a question and its answer."""
    turns: list[Message] = []
    for place, pair in enumerate(
        as_list(f"{where}: history", values["history"]) if "history" in values else []
    ):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(t, str) and t.strip() for t in pair)
        ):
            raise BadInput(
                f"{where}: history[{place}]: write [question, answer], both texts, "
                f"not {reprlib.repr(pair)}"
            )
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _with_system(where: str, values: Mapping[str, Any], conversation: Conversation) -> Conversation:
    system = values.get("system", "")
    if isinstance(system, str) and not system.strip():
        return conversation
    if any(message["role"] == "system" for message in conversation.messages):
        raise BadInput(
            f"{where}: system: the messages have a system message too; write one of them"
        )
    first: Message = {"role": "system", "content": _text(where, values, "system")}
    weights = {place + 1: weight for place, weight in conversation.weights.items()}
    return Conversation((first, *conversation.messages), weights)


def _conversation_line(
    where: str, place: str, values: Mapping[str, Any], conversation: Conversation, reading: Reading
) -> Line:
    """A line of messages: the last one is the answer, or if none is required, the prompt."""
    messages = conversation.messages
    answered = bool(messages) and messages[-1]["role"] == "assistant"
    if len(messages) < (2 if reading.answers or answered else 1):
        raise BadInput(f"{place}: write a list of at least a user's and an assistant's message")
    if not answered and reading.answers:
        raise BadInput(
            f"{place}: the last message is the {messages[-1]['role']}'s; "
            "end with the assistant's answer"
        )
    prompts = [
        m["content"] for m in (messages[:-1] if answered else messages) if m["role"] == "user"
    ]
    if not prompts:
        raise BadInput(f"{place}: no user message before the answer")
    for number, message in enumerate(messages):
        if (
            message["role"] in ("user", "assistant")
            and not message["content"].strip()
            and "tool_calls" not in message
        ):
            what = (
                "the answer is empty"
                if answered and number == len(messages) - 1
                else "an empty message"
            )
            raise BadInput(
                f"{place}[{number}]: content: {what}; write its text, or remove the line"
            )
    whole = _with_system(where, values, conversation)
    return Line(
        whole, answered, {"prompt": prompts[-1], "input": prompts[-1]} | _system_field(whole)
    )


def _system_field(conversation: Conversation) -> dict[str, str]:
    texts = [message["content"] for message in conversation.messages if message["role"] == "system"]
    return {"system": "\n".join(texts)} if texts else {}


def _text(where: str, values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}: {key}: write a text that is not empty, not {reprlib.repr(value)}")
    return value


def _names(keys: Iterable[object]) -> str:
    names = [str(key)[:40] for key in sorted(keys, key=str)]
    return ", ".join(names[:_MOST_NAMES]) + (
        f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    )


def _written(value: Any) -> Any:
    """A number or a truth value as JSON writes it (`true`, `5`, `1.0`); others unchanged."""
    if isinstance(value, JsonNumber):
        return value.text
    return (
        json.dumps(value)
        if isinstance(value, bool | int | float) and math.isfinite(value)
        else value
    )


_READERS = {
    "messages": _from_messages,
    "conversations": _from_messages,
    "prompt": _from_prompt,
    "instruction": _from_instruction,
}
_SHAPE_KEYS = {
    "messages": frozenset({"messages", "system", "tools"}),
    "conversations": frozenset({"conversations", "system", "tools"}),
    "prompt": frozenset({"prompt", "completion", "system", "history", "tools"}),
    "instruction": frozenset({"instruction", "input", "output", "system", "history", "tools"}),
}
_OURS = frozenset().union(*_SHAPE_KEYS.values())
