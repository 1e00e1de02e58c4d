"""The shapes that a data line may have, and the conversation each one means.

Messages (OpenAI, TRL), `conversations` (ShareGPT), prompt and completion (TRL, texts or message lists), and instruction,
input, output (Alpaca). Every key of a line is read, left out by name, or an error.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foundation.data.json_rows import Number
from foundation.data.messages import Conversation, Message, as_list, read_messages, read_tools
from foundation.errors import BadInput
from foundation.section import nearest

SHAPES = '{"messages": [...]}, {"prompt", "completion"} or {"instruction", "input", "output"}'
_MOST_NAMES = 12
_NAMES_A_LINE = frozenset({"id", "__index_level_0__"})
"""Keys that name a line and say nothing: read by nobody, and no error. pandas writes the second."""


@dataclass(frozen=True)
class Reading:
    """How the lines of a file are read.

    `columns` says which of theirs stands for ours (`{"prompt": "text"}`), `ignore` names keys of lines and of messages to
    leave out, `fields` those that a prompt style names. `answers`: whether each line must have one.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    ignore: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    answers: bool = True


@dataclass(frozen=True)
class Line:
    """One line: the messages, the answer last where there is one; `fields` for prompt styles; the tools on offer."""

    conversation: Conversation
    answered: bool
    fields: Mapping[str, str]
    tools: tuple[dict[str, Any], ...] = ()


def read_line(where: str, row: Mapping[str, Any], reading: Reading) -> Line:
    """The line at `where`. Raises BadInput that names the key and what to write instead."""
    row = _renamed(where, row, reading)
    shape = _shape(where, row, reading.answers)
    given = {key: value for key, value in row.items() if value is not None}
    extra = {key: given.pop(key) for key in reading.fields - _OURS if key in given}
    if unread := [
        key for key in given if key not in _SHAPE_KEYS[shape] and key not in _NAMES_A_LINE
    ]:
        raise BadInput(
            f"{where}: nothing reads {_names(unread)} beside {_names(_SHAPE_KEYS[shape] & set(given))}; write "
            f"data.ignore: [{_names(unread)}] (dyno load: --ignore) to leave that out, or data.columns to say what it stands for"
        )
    line = _READERS[shape](where, given, reading)
    tools = read_tools(f"{where}: tools", given["tools"]) if "tools" in given else ()
    more = {key: _text(where, {key: _written(value)}, key) for key, value in extra.items()}
    return Line(line.conversation, line.answered, {**line.fields, **more}, tools)


def _shape(where: str, row: Mapping[str, Any], answers: bool) -> str:
    """The name of a shape: the key that tells it. Without `answers` a question alone is one too."""
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
        f"{where}: fields {_names(row) or 'none'}; write {SHAPES}, or name the columns: data.columns: {{{hint}}}"
    )


def _renamed(where: str, row: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    for ours, theirs in reading.columns.items():
        if theirs not in row:
            raise BadInput(
                f"{where}: data.columns names {theirs!r}, which is no column{nearest(theirs, map(str, row))}"
            )
        if (
            ours in row
            and ours != theirs
            and ours not in reading.ignore
            and ours not in reading.columns.values()
        ):
            raise BadInput(
                f"{where}: there is a column {ours!r} beside {theirs!r}, which data.columns puts in its place; "
                f"write data.ignore: [{ours}] to leave it out"
            )
    moved = set(reading.columns.values()) | (set(reading.columns) & reading.ignore)
    kept = {
        key: value for key, value in row.items() if key not in moved and key not in reading.ignore
    }
    return kept | {ours: row[theirs] for ours, theirs in reading.columns.items()}


def _from_messages(where: str, given: Mapping[str, Any], reading: Reading) -> Line:
    key = "messages" if "messages" in given else "conversations"
    place = f"{where}: {key}"
    return _talked(where, place, given, read_messages(place, given[key], reading.ignore), reading)


def _from_prompt(where: str, given: Mapping[str, Any], reading: Reading) -> Line:
    if any(
        isinstance(value, list) and value for value in (given["prompt"], given.get("completion"))
    ):
        return _from_lists(where, given, reading)
    prompt = _text(where, given, "prompt")
    fields = {"prompt": prompt, "input": prompt}
    return _asked(
        where, given, prompt, fields, "completion" if _has(given, "completion", reading) else None
    )


def _from_instruction(where: str, given: Mapping[str, Any], reading: Reading) -> Line:
    instruction = _text(where, given, "instruction")
    blank = isinstance(given.get("input", ""), str) and not given.get("input", "").strip()
    more = "" if blank else _text(where, given, "input")
    question = f"{instruction}\n\n{more}" if more else instruction
    fields = {"instruction": instruction, "input": more, "prompt": question}
    return _asked(
        where, given, question, fields, "output" if _has(given, "output", reading) else None
    )


def _from_lists(where: str, given: Mapping[str, Any], reading: Reading) -> Line:
    """TRL's conversational prompt and completion; either may be a text."""
    parts = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = given.get(key, [])
        place, listed = (
            f"{where}: {key}",
            [{"role": role, "content": value}] if isinstance(value, str) else value,
        )
        parts.append(read_messages(place, listed, reading.ignore))
    asked, answer = (part.messages for part in parts)
    if "completion" in given and [message["role"] for message in answer] != ["assistant"]:
        raise BadInput(
            f"{where}: completion: write one message, the assistant's; what comes before it belongs to prompt"
        )
    if "completion" not in given and asked and asked[-1]["role"] == "assistant":
        raise BadInput(
            f"{where}: prompt: ends with the assistant's message; write that as completion"
        )
    weights = dict(parts[0].weights) | {
        len(asked) + place: weight for place, weight in parts[1].weights.items()
    }
    return _talked(
        where, f"{where}: prompt", given, Conversation((*asked, *answer), weights), reading
    )


def _asked(
    where: str, given: Mapping[str, Any], question: str, fields: dict[str, str], key: str | None
) -> Line:
    """A question in one text, behind what `system` and `history` say; `key` has its answer."""
    asked: list[Message] = [*_history(where, given), {"role": "user", "content": question}]
    if key:
        asked.append(
            {"role": "assistant", "content": _text(where, {key: _written(given.get(key))}, key)}
        )
    conversation = _with_system(where, given, Conversation(tuple(asked), {}))
    return Line(conversation, key is not None, fields | _system_field(conversation))


def _has(given: Mapping[str, Any], answer: str, reading: Reading) -> bool:
    """Whether an answer is read: where one must be there, what is missing is an error."""
    return reading.answers or answer in given


def _history(where: str, given: Mapping[str, Any]) -> list[Message]:
    """LLaMA-Factory's earlier turns: pairs of a question and its answer."""
    turns: list[Message] = []
    for place, pair in enumerate(
        as_list(f"{where}: history", given["history"]) if "history" in given else []
    ):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(t, str) and t.strip() for t in pair)
        ):
            raise BadInput(
                f"{where}: history[{place}]: write [question, answer], both texts, not {reprlib.repr(pair)}"
            )
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _with_system(where: str, given: Mapping[str, Any], conversation: Conversation) -> Conversation:
    system = given.get("system", "")
    if isinstance(system, str) and not system.strip():
        return conversation
    if any(message["role"] == "system" for message in conversation.messages):
        raise BadInput(
            f"{where}: system: the messages have a system message too; write one of them"
        )
    first: Message = {"role": "system", "content": _text(where, given, "system")}
    weights = {place + 1: weight for place, weight in conversation.weights.items()}
    return Conversation((first, *conversation.messages), weights)


def _talked(
    where: str, place: str, given: Mapping[str, Any], conversation: Conversation, reading: Reading
) -> Line:
    """A conversation whose last message is the answer; or, where none is needed, may be the question."""
    messages = conversation.messages
    answered = bool(messages) and messages[-1]["role"] == "assistant"
    if len(messages) < (2 if reading.answers or answered else 1):
        raise BadInput(f"{place}: write a list of at least a user's and an assistant's message")
    if not answered and reading.answers:
        raise BadInput(
            f"{place}: the last message is the {messages[-1]['role']}'s; end with the assistant's answer"
        )
    asked = [m["content"] for m in (messages[:-1] if answered else messages) if m["role"] == "user"]
    if not asked:
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
    whole = _with_system(where, given, conversation)
    return Line(whole, answered, {"prompt": asked[-1], "input": asked[-1]} | _system_field(whole))


def _system_field(conversation: Conversation) -> dict[str, str]:
    texts = [message["content"] for message in conversation.messages if message["role"] == "system"]
    return {"system": "\n".join(texts)} if texts else {}


def _text(where: str, given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}: {key}: write a text that is not empty, not {reprlib.repr(value)}")
    return value


def _names(keys: Iterable[object]) -> str:
    names = [str(key)[:40] for key in sorted(keys, key=str)]
    return ", ".join(names[:_MOST_NAMES]) + (
        f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    )


def _written(value: Any) -> Any:
    """A number or a truth value as JSON writes it (`true`, `5`, `1.0`); everything else as it is."""
    if isinstance(value, Number):
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
