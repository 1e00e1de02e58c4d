"""Recorded conversations as sessions: what users said, turn by turn. The answers are the server's own.

Known: ShareGPT's JSON, a list of `{"conversations": [{"from": "human", "value": ...}, ...]}`, and JSON lines of
`{"messages": [{"role": "user", "content": ...}, ...]}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundation.errors import BadInput

Message = dict[str, str]
_SHAPES = 'ShareGPT JSON ([{"conversations": [...]}, ...]) or JSON lines of {"messages": [...]}'
_ROLES = {"human": "user", "user": "user", "system": "system"}
_ROLES |= dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard"), "assistant")


def read_sessions(file: Path, turns: int | None) -> list[list[list[Message]]]:
    """Sessions of turns of messages: each turn is what is said up to an answer.

    Conversations in which no user speaks are left out; of longer ones the first `turns` are taken. Raises BadInput that names
    file and line, or place in the list.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: can't be read as UTF-8 text ({error})") from error
    spoken = (_turns(where, messages) for where, messages in _conversations(file, text))
    sessions = [session[:turns] for session in spoken if session]
    if not sessions:
        raise BadInput(f"{file}: no conversation with a user in it; write {_SHAPES}")
    return sessions


def _conversations(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    if text.lstrip().startswith("["):
        try:
            listed: Any = json.loads(text)
        except ValueError as error:
            raise BadInput(f"{file}: not JSON ({error}); write {_SHAPES}") from None
        yield from (_messages(f"{file}[{place}]", each) for place, each in enumerate(listed))
        return
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{file}:{number}: not JSON ({error}); write {_SHAPES}") from None
        yield _messages(f"{file}:{number}", row)


def _messages(where: str, row: Any) -> tuple[str, Any]:
    for key in ("conversations", "messages"):
        if isinstance(row, dict) and isinstance(row.get(key), list):
            return f"{where}: {key}", row[key]
    raise BadInput(f"{where}: no conversation; write {_SHAPES}")


def _turns(where: str, messages: list[Any]) -> list[list[Message]]:
    turns: list[list[Message]] = []
    said: list[Message] = []
    for place, each in enumerate(messages):
        row = each if isinstance(each, dict) else {}
        role = _ROLES.get(str(row.get("from", row.get("role"))))
        content = row.get("value", row.get("content"))
        if role is None or not isinstance(content, str):
            raise BadInput(f'{where}[{place}]: write {{"role": "user", "content": "..."}} or {{"from": "human", "value": "..."}}')
        if role != "assistant":
            said.append({"role": role, "content": content})
        elif any(message["role"] == "user" for message in said):
            turns.append(said)
            said = []
    if any(message["role"] == "user" for message in said):
        turns.append(said)
    return turns
