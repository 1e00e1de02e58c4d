"""Recorded conversations as sessions: what users said, turn by turn. The answers are the server's own.

Known: ShareGPT's `{"conversations": [{"from": "human", "value": ...}, ...]}` and `{"messages": [{"role": "user", "content":
...}, ...]}`, as JSON lines, a JSON list or Parquet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foundation.data.messages import Message, read_messages
from foundation.data.tables import read_rows
from foundation.errors import BadInput

_SHAPES = 'ShareGPT JSON ([{"conversations": [...]}, ...]) or JSON lines of {"messages": [...]}'


def read_sessions(
    file: Path, turns: int | None, say: Callable[[str], None] = lambda line: None
) -> list[list[list[Message]]]:
    """Sessions of turns of messages: each turn is what is said up to an answer.

    Conversations that a load can't ask as they were are left out: in which no user speaks, with tools, with an empty or missing
    message, with parts that are no text. `say` hears how many, and why the first. Of longer conversations
    the first `turns` turns are taken. Raises BadInput that names file and line for what is no conversation.
    """
    sessions, odd, total = [], [], 0
    for line, row in read_rows(file, key=None):
        total += 1
        where = f"{file}:{line}"
        key = next(
            (key for key in ("conversations", "messages") if isinstance(row.get(key), list | str)),
            None,
        )
        if key is None:
            raise BadInput(f"{where}: no conversation; write {_SHAPES}")
        try:
            session = _turns(f"{where}: {key}", row, key)
        except BadInput as reason:
            odd.append(str(reason))
        else:
            if session:
                sessions.append(session[:turns])
            else:
                odd.append(f"{where}: {key}: no user speaks")
    left_out = (
        f"{len(odd)} of {total} conversations can't be asked as they were ({odd[0]})" if odd else ""
    )
    if not sessions:
        raise BadInput(
            f"{file}: no conversation with a user in it; {left_out or f'write {_SHAPES}'}"
        )
    if odd:
        say(f"{file}: {left_out}; they are left out")
    return sessions


def _turns(where: str, row: Mapping[str, Any], key: str) -> list[list[Message]]:
    """What is said before each answer. Raises BadInput where a load can't ask that."""
    messages = read_messages(where, row[key], ignore=None).messages
    if row.get("tools") or any(
        message["role"] == "tool" or "tool_calls" in message for message in messages
    ):
        raise BadInput(f"{where}: tools")
    turns: list[list[Message]] = []
    said: list[Message] = _system(row)
    for place, message in enumerate(messages):
        if message["role"] in ("user", "assistant") and not message["content"].strip():
            raise BadInput(f"{where}[{place}]: empty")
        if message["role"] != "assistant":
            said.append({"role": message["role"], "content": message["content"]})
        elif any(each["role"] == "user" for each in said):
            turns.append(said)
            said = []
    if any(each["role"] == "user" for each in said):
        turns.append(said)
    return turns


def _system(row: Mapping[str, Any]) -> list[Message]:
    """The system text that stands beside the messages, as LLaMA-Factory writes it."""
    system = row.get("system")
    return (
        [{"role": "system", "content": system}]
        if isinstance(system, str) and system.strip()
        else []
    )
