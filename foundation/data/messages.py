"""Reads conversations with OpenAI's, TRL's or ShareGPT's keys into one record."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from foundation.data.json_rows import parse_json, plain
from foundation.errors import BadInput

Message = dict[str, Any]
"""`role` and `content`, both texts.

Optional: `name`, `reasoning_content`, `tool_calls` and `tool_call_id`.
"""

ROLES = ("system", "user", "assistant", "tool")
_SAME = {"human": "user", **dict.fromkeys(("gpt", "chatgpt", "bing", "bard"), "assistant")}
_KEYS = {
    "system": {"name"},
    "user": {"name"},
    "assistant": {"name", "reasoning_content", "tool_calls"},
    "tool": {"name", "tool_call_id"},
}
_SHAPE = 'write {"role": "user", "content": "..."} or {"from": "human", "value": "..."}'


@dataclass(frozen=True)
class Conversation:
    """Messages in order. `weights`: by position, 0 or 1 if an answer has a weight for learning."""

    messages: tuple[Message, ...]
    weights: Mapping[int, int]


def read_messages(where: str, value: object, ignore: Collection[str] | None = ()) -> Conversation:
    """The messages of a list, or of a JSON text of one.

    `ignore`: keys to leave out; None ignores all unknown keys. A key with the value null counts as
    missing. Line ends join parts of text, as in vLLM. Raises BadInput with the message's position
    for anything without a meaning.
    """
    messages, weights = [], {}
    for place, each in enumerate(as_list(where, value)):
        message, weight = _message(f"{where}[{place}]", each, ignore)
        messages.append(message)
        if weight is not None:
            weights[place] = weight
    return Conversation(tuple(messages), weights)


def as_list(where: str, value: object) -> list[Any]:
    """A list, or the list in a JSON text (from tables without nested columns)."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_json(where, value)
    if not isinstance(value, list):
        raise BadInput(f"{where}: write a list, not {reprlib.repr(value)}")
    return value


def read_tools(where: str, value: object) -> tuple[dict[str, Any], ...]:
    """The functions that an assistant may call, in the form that chat templates take."""
    tools = as_list(where, value)
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise BadInput(
                f'{where}[{place}]: write {{"type": "function", "function": {{"name": ...}}}}'
            )
    return tuple(_plain(f"{where}[{place}]", tool) for place, tool in enumerate(tools))


def _message(
    where: str, value: object, ignore: Collection[str] | None
) -> tuple[Message, int | None]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: {_SHAPE}")
    values = {
        key: each for key, each in value.items() if each is not None and key not in (ignore or ())
    }
    name = values.pop("role", None) or values.pop("from", None)
    role = _SAME.get(name, name) if isinstance(name, str) else None
    if role is None:
        raise BadInput(f"{where}: {_SHAPE}")
    if role not in ROLES:
        raise BadInput(f"{where}.role: {reprlib.repr(name)}; write system, user, assistant or tool")
    content = values.pop("content", None) if "content" in values else values.pop("value", None)
    weight = _weight(where, role, values.pop("weight", None))
    calls = _calls(where, values.pop("tool_calls", None), ignore) if role == "assistant" else []
    _check_keys(where, values, _KEYS[role], ignore)
    message: Message = {"role": role, "content": _content(where, content, bool(calls), ignore)}
    for key in sorted(_KEYS[role] & set(values)):
        if not isinstance(values[key], str):
            raise BadInput(f"{where}.{key}: write a text, not {reprlib.repr(values[key])}")
        message[key] = values[key]
    return (message | {"tool_calls": calls} if calls else message), weight


def _check_keys(
    where: str, values: Mapping[str, Any], known: Collection[str], ignore: Collection[str] | None
) -> None:
    """Raises BadInput for a key with a value but no meaning, unless `ignore` is None."""
    allowed = {*known, *(ignore or ())}
    unknown = [key for key, value in values.items() if value is not None and key not in allowed]
    if unknown and ignore is not None:
        raise BadInput(
            f"{where}: nothing reads the key {reprlib.repr(unknown[0])} here; "
            "name it in data.ignore to leave it out"
        )


def _content(where: str, content: object, empty: bool, ignore: Collection[str] | None) -> str:
    """A message's text. `empty`: the text may be missing, as beside tool calls."""
    if content is None and empty:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        return "\n".join(
            _part(f"{where}.content[{place}]", part, ignore) for place, part in enumerate(content)
        )
    raise BadInput(f"{where}: {_SHAPE}")


def _part(where: str, part: object, ignore: Collection[str] | None) -> str:
    if isinstance(part, dict):
        kind = part.get("type", "text")
        if kind != "text":
            raise BadInput(
                f"{where}: a part of type {reprlib.repr(kind)}; only parts of text can be read"
            )
        _check_keys(where, part, ("type", "text"), ignore)
        part = part.get("text")
    if not isinstance(part, str):
        raise BadInput(f'{where}: write {{"type": "text", "text": "..."}}')
    return part


def _weight(where: str, role: str, weight: object) -> int | None:
    if weight is None:
        return None
    if role != "assistant":
        raise BadInput(f"{where}.weight: belongs to the assistant's messages, not the {role}'s")
    if not isinstance(weight, int | float) or weight not in (0, 1):
        raise BadInput(f"{where}.weight: write 0 (not learned) or 1, not {reprlib.repr(weight)}")
    return int(weight)


def _calls(where: str, calls: object, ignore: Collection[str] | None) -> list[dict[str, Any]]:
    """Tool calls with their arguments as an object, which is what servers give chat templates."""
    if calls is None:
        return []
    return [
        _call(f"{where}.tool_calls[{i}]", call, ignore)
        for i, call in enumerate(as_list(f"{where}.tool_calls", calls))
    ]


def _call(where: str, call: object, ignore: Collection[str] | None) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if (
        not isinstance(call, dict)
        or not isinstance(function, dict)
        or not isinstance(function.get("name"), str)
    ):
        raise BadInput(
            f'{where}: write {{"type": "function", "function": {{"name": ..., "arguments": ...}}}}'
        )
    _check_keys(where, call, ("id", "type", "index", "function"), ignore)
    _check_keys(f"{where}.function", function, ("name", "arguments"), ignore)
    arguments = {} if function.get("arguments") is None else function["arguments"]
    if isinstance(arguments, str):
        arguments = (
            parse_json(f"{where}.function.arguments", arguments) if arguments.strip() else {}
        )
    if not isinstance(arguments, dict):
        raise BadInput(
            f"{where}.function.arguments: write a JSON object, not {reprlib.repr(arguments)}"
        )
    identifier = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {
        **identifier,
        "type": "function",
        "function": {"name": function["name"], "arguments": _plain(where, arguments)},
    }


def _plain(where: str, value: Any) -> Any:
    try:
        return plain(value)
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None
