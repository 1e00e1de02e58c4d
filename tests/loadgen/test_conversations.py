"""Recorded conversations: user messages are sent, unusable conversations left out and counted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import BadInput
from loadgen.prompts.conversations import read_sessions

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def talk(*texts: str | None, **more: Any) -> dict[str, Any]:
    return {
        "conversations": [
            {"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)
        ],
        **more,
    }


def chat(*texts: Any, **more: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)
        ],
        **more,
    }


def words(file: Path, *rows: Any) -> tuple[list[list[list[str]]], list[str]]:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines: list[str] = []
    sessions = read_sessions(file, None, lines.append)
    return [[[m["content"] for m in turn] for turn in session] for session in sessions], lines


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            chat("Q", "A", tools=[{"type": "function", "function": {"name": "f"}}]),
            "messages: tools",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q"},
                    CALL,
                    {"role": "tool", "content": "x"},
                ]
            },
            "messages: tools",
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Q"},
                    {"from": "function_call", "value": "{}"},
                ]
            },
            "function_call",
        ),
        (talk("", "A"), r"conversations\[0\]: empty"),
        (talk("Q", None, "Q"), r"conversations\[1\]: write"),
        (
            chat([{"type": "image_url", "image_url": {"url": "x"}}], "A"),
            "a part of type 'image_url'",
        ),
        ({"conversations": [1]}, r"conversations\[0\]: write"),
    ],
)
def test_tools_holes_and_pictures_are_left_out_and_counted(
    tmp_path: Path, row: dict[str, Any], why: str
) -> None:
    sessions, [lines] = words(tmp_path / "d.jsonl", chat("Q1", "A"), row, chat("Q2"))
    assert sessions == [[["Q1"]], [["Q2"]]]
    assert lines.startswith(
        f"{tmp_path / 'd.jsonl'}: 1 of 3 conversations can't be asked as they were"
    )
    assert "d.jsonl:2: " in lines
    assert re.search(why, lines)


def test_a_conversation_begins_where_the_user_does_and_system_text_stays(tmp_path: Path) -> None:
    begun = {
        "conversations": [{"from": "gpt", "value": "I begin"}, {"from": "human", "value": "Q"}]
    }
    sessions, lines = words(tmp_path / "d.jsonl", begun, talk("Q", "A", system="Be brief."), talk())
    assert sessions == [[["Q"]], [["Be brief.", "Q"]]]
    assert (
        len(lines) == 1
        and "1 of 3 conversations" in lines[0]
        and "d.jsonl:3: conversations: no user speaks" in lines[0]
    )


def test_other_keys_and_parts_of_text(tmp_path: Path) -> None:
    row = {
        "id": 3,
        "lang": "en",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}], "markdown": "x"}],
    }
    assert words(tmp_path / "d.jsonl", row) == ([[["Q"]]], [])


def test_a_mark_and_a_separator_inside_a_text(tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    file.write_bytes(
        b"\xef\xbb\xbf" + json.dumps([talk("a\u2028b", "A")] * 2, ensure_ascii=False).encode()
    )
    assert [[m["content"] for m in turn] for [turn] in read_sessions(file, None)] == [
        ["a\u2028b"]
    ] * 2


def test_another_encoding_is_named_with_what_can_be_done(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(json.dumps([talk("Q", "A")]).encode("utf-16"))
    with pytest.raises(
        BadInput, match=r"d.json:1: UTF-16 text, by its first bytes; save the file as UTF-8$"
    ):
        read_sessions(tmp_path / "d.json", None)
