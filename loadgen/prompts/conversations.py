"""Reads recorded conversations as sessions: the user's messages, turn by turn.

The answers in a load are the server's own. Formats are ShareGPT's `{"conversations": [{"from":
"human", "value": ...}, ...]}` and `{"messages": [{"role": "user", "content": ...}, ...]}`, as JSON
lines, a JSON list or Parquet.
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
    file: Path, turns: int | None, log: Callable[[str], None] = lambda line: None
) -> list[list[list[Message]]]:
    """Sessions of turns of messages. A turn is the messages up to an answer.

    Conversations that a load can't send as they were are left out: without a user, with tools, with
    an empty or missing message, with parts that are no text. `log` gets their number, and the
    reason for the first. Of longer conversations the first `turns` turns are used. Raises BadInput
    that names file and line for a row that is no conversation.
    """
    sessions, problems, total = [], [], 0
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
            problems.append(str(reason))
        else:
            if session:
                sessions.append(session[:turns])
            else:
                problems.append(f"{where}: {key}: no user speaks")
    left_out = (
        f"{len(problems)} of {total} conversations can't be asked as they were ({problems[0]})"
        if problems
        else ""
    )
    if not sessions:
        raise BadInput(
            f"{file}: no conversation with a user in it; {left_out or f'write {_SHAPES}'}"
        )
    if problems:
        log(f"{file}: {left_out}; they are left out")
    return sessions


def _turns(where: str, row: Mapping[str, Any], key: str) -> list[list[Message]]:
    """The messages before each answer. Raises BadInput where a load can't send them."""
    messages = read_messages(where, row[key], ignore=None).messages
    if row.get("tools") or any(
        message["role"] == "tool" or "tool_calls" in message for message in messages
    ):
        raise BadInput(f"{where}: tools")
    turns: list[list[Message]] = []
    turn: list[Message] = _system(row)
    for place, message in enumerate(messages):
        if message["role"] in ("user", "assistant") and not message["content"].strip():
            raise BadInput(f"{where}[{place}]: empty")
        if message["role"] != "assistant":
            turn.append({"role": message["role"], "content": message["content"]})
        elif any(each["role"] == "user" for each in turn):
            turns.append(turn)
            turn = []
    if any(each["role"] == "user" for each in turn):
        turns.append(turn)
    return turns


def _system(row: Mapping[str, Any]) -> list[Message]:
    """The system text beside the messages, as LLaMA-Factory writes it."""
    system = row.get("system")
    return (
        [{"role": "system", "content": system}]
        if isinstance(system, str) and system.strip()
        else []
    )
