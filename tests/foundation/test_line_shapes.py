"""Lines in people's shapes: each becomes its conversation, and no key is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.data.examples import Example, PromptStyle, read_examples
from foundation.errors import BadInput

SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}
ANSWER = {"role": "assistant", "content": "A"}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "open", "parameters": {"type": "object", "minimum": 0}},
    }
]
CALL = {"id": "c1", "type": "function", "function": {"name": "open", "arguments": '{"n": 1}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
PARTS = [{"type": "text", "text": "Q"}, {"type": "text", "text": "R"}]
BOLD = {"type": "text", "text": "Q", "bold": True}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "done"}


def nested(depth: int) -> dict[str, Any]:
    return {"in": nested(depth - 1)} if depth else {}


def read(folder: Path, *rows: Any, **how: Any) -> list[Example]:
    file = folder / "d.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_examples(file, **how)


def said(example: Example) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in (*example.messages, example.answer)]


@pytest.mark.parametrize(
    ("row", "conversation"),
    [
        ({"messages": [SYSTEM, USER, ANSWER]}, ["Be brief.", "Q", "A"]),
        ({"messages": [USER, ANSWER], "system": "Be brief."}, ["Be brief.", "Q", "A"]),
        (
            {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"},
                {"from": "gpt", "value": "A"}]},
            ["S", "Q", "A"],
        ),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
            "system": "S"}, ["S", "Q", "A"]),
        ({"prompt": [SYSTEM, USER], "completion": [ANSWER]}, ["Be brief.", "Q", "A"]),
        ({"prompt": [USER], "completion": "A"}, ["Q", "A"]),
        ({"prompt": "Q", "completion": [ANSWER]}, ["Q", "A"]),
        ({"prompt": "Q", "completion": "A", "system": "S", "history": [["Q0", "A0"]]},
            ["S", "Q0", "A0", "Q", "A"]),
        ({"instruction": "Q", "input": " ", "output": "A", "system": "", "history": []},
            ["Q", "A"]),
        ({"instruction": "Q", "input": None, "output": 3, "system": None}, ["Q", "3"]),
        ({"messages": [{"role": "user", "content": PARTS}, ANSWER]}, ["Q\nR", "A"]),
        ({"messages": json.dumps([USER, ANSWER])}, ["Q", "A"]),
        ({"messages": [USER, ANSWER], "id": 7, "__index_level_0__": 0}, ["Q", "A"]),
        ({"messages": [{**USER, "name": None}, {**ANSWER, "tool_calls": [], "refusal": None}]},
            ["Q", "A"]),
    ],
)  # fmt: skip
def test_what_a_line_means(tmp_path: Path, row: dict[str, Any], conversation: list[str]) -> None:
    [example] = read(tmp_path, row)
    assert [text for _, text in said(example)] == conversation


def test_tools_calls_and_reasoning_are_kept_as_a_template_takes_them(tmp_path: Path) -> None:
    [example] = read(
        tmp_path,
        {"messages": [USER, CALLED, RESULT, {**ANSWER, "reasoning_content": "hm"}], "tools": TOOLS},
    )
    assert (
        example.tools == tuple(TOOLS)
        and type(example.tools[0]["function"]["parameters"]["minimum"]) is int
    )
    assert example.messages[1]["tool_calls"][0]["function"] == {
        "name": "open",
        "arguments": {"n": 1},
    }
    assert example.messages[2]["role"] == "tool"
    assert example.answer == {**ANSWER, "reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "Q", "completion": "A", "context": "C"},
            r"context beside completion, prompt; .*\[context\]"),
        ({"instruction": "Q", "output": "A", "context": "C"}, "nothing reads context"),
        ({"messages": [USER, ANSWER], "prompt": "Q", "chosen": 1},
            "nothing reads chosen, prompt beside messages"),
        ({"messages": [{**USER, "mood": "x"}, ANSWER]},
            r"messages\[0\]: nothing reads the key 'mood'"),
        ({"messages": [USER, {**ANSWER, "function_call": {"name": "f"}}]},
            "nothing reads the key 'function_call'"),
        ({"messages": [{**USER, "tool_calls": [CALL]}, ANSWER]},
            "nothing reads the key 'tool_calls'"),
        ({"messages": [{**USER, "weight": 1}, ANSWER]}, "weight: belongs to the assistant"),
        ({"messages": [USER, {**ANSWER, "weight": 0.5}]},
            r"weight: write 0 .not learned. or 1, not 0.5"),
        ({"messages": [USER, {**ANSWER, "name": 3}]}, "name: write a text, not 3"),
        ({"messages": [SYSTEM, USER, ANSWER], "system": "S"},
            "the messages have a system message too"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]},
            r"messages\[1\]: content: the answer is empty"),
        ({"messages": [{"role": "user", "content": ""}, ANSWER]},
            r"messages\[0\]: content: an empty message"),
        ({"messages": [{"role": "user", "content": []}, ANSWER]}, r"messages\[0\]: write"),
        ({"messages": [{"role": "user", "content": 3}, ANSWER]}, r"messages\[0\]: write"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
            "a part of type 'image_url'"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, r"messages\[1\]: write"),
        ({"messages": [USER, {**CALLED, "tool_calls": [{"function": {"name": "f",
            "arguments": "["}}]}]}, "arguments: not JSON"),
        ({"messages": [USER, {**CALLED, "tool_calls": [{"name": "f"}]}]},
            r"tool_calls\[0\]: write"),
        ({"messages": [{"role": "user", "content": [BOLD]}, ANSWER]},
            r"content\[0\]: nothing reads the key 'bold'"),
        ({"messages": [USER, {**CALLED, "tool_calls": [{**CALL, "x": 1}]}]},
            r"tool_calls\[0\]: nothing reads the key 'x'"),
        ({"messages": [USER, ANSWER], "tools": "open"}, "tools: write a list"),
        ({"messages": [USER, ANSWER], "tools": [nested(150)]}, r"tools\[0\]: nested too deep"),
        ({"prompt": "Q", "completion": "A", "history": ["Q0"]},
            r"history\[0\]: write \[question, answer\]"),
        ({"prompt": [USER], "completion": [CALLED, RESULT, ANSWER]},
            "completion: write one message"),
        ({"Prompt": "Q", "Completion": "A"},
            r"data.columns: \{completion: Completion, prompt: Prompt\}"),
        ({"prompt": "Q", "completion": ["x" * 10**6]}, "completion"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_an_error_of_one_short_line(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput, match=says) as error:
        read(tmp_path, row)
    assert str(error.value).startswith(f"{tmp_path / 'd.jsonl'}:1: ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_what_is_ignored_is_left_out_of_lines_and_messages(tmp_path: Path) -> None:
    row = {
        "messages": [{**USER, "name": "ann"}, {**ANSWER, "weight": 0}],
        "tools": TOOLS,
        "lang": "en",
    }
    [example] = read(tmp_path, row, ignore=["name", "weight", "tools", "lang"])
    assert (example.messages, example.answer, example.tools, example.weights) == (
        (USER,),
        ANSWER,
        (),
        {},
    )


def test_a_column_that_a_style_names_is_a_field(tmp_path: Path) -> None:
    row = {"prompt": "Q", "completion": "A", "title": "T", "year": 1999}
    [example] = read(tmp_path, row, fields={"title", "year", "input"})
    assert PromptStyle("{title} ({year}): {input}").render(example) == [
        {"role": "user", "content": "T (1999): Q"}
    ]


def test_columns_take_the_place_of_ours_and_never_cover_another(tmp_path: Path) -> None:
    row = {"prompt": "old", "text": "Q", "label": 3}
    columns = {"prompt": "text", "completion": "label"}
    with pytest.raises(
        BadInput, match=r"a column 'prompt' beside 'text', .*data.ignore: \[prompt\]"
    ):
        read(tmp_path, row, columns=columns)
    [example] = read(tmp_path, row, columns=columns, ignore=["prompt"])
    assert (example.messages[0]["content"], example.completion) == ("Q", "3")
    [swapped] = read(
        tmp_path,
        {"prompt": "A", "completion": "Q"},
        columns={"prompt": "completion", "completion": "prompt"},
    )
    assert (swapped.messages[0]["content"], swapped.completion) == ("Q", "A")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q"},
        {"prompt": "Q", "completion": None},
        {"instruction": "Q"},
        {"messages": [USER]},
        {"prompt": [USER]},
    ],
)
def test_a_question_alone_is_enough_where_no_answer_is_needed(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    [example] = read(tmp_path, row, answers=False)
    assert (example.messages, example.reference) == ((USER,), None)
    with pytest.raises(BadInput):
        read(tmp_path, row)


def test_weights_stand_at_their_messages(tmp_path: Path) -> None:
    turns = [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}]
    [example] = read(tmp_path, {"messages": turns, "system": "S"})
    assert example.weights == {2: 0, 4: 1}
    assert all("weight" not in message for message in (*example.messages, example.answer))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"messages": [SYSTEM, USER, ANSWER]},
            "would drop this example's system text; name {system} in the style",
        ),
        ({"messages": [USER, ANSWER, USER, ANSWER]}, "would drop the 2 messages that come before"),
        (
            {"instruction": "Q", "output": "A", "history": [["a", "b"]]},
            "would drop the 2 messages that come before",
        ),
        (
            {"instruction": "Q", "output": "A", "system": "S"},
            "would drop this example's system text",
        ),
        ({"messages": [{**USER, "name": "ann"}, ANSWER]}, "would drop 'name'"),
    ],
)
def test_a_style_that_would_drop_what_was_said_is_refused(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    [example] = read(tmp_path, row)
    with pytest.raises(BadInput) as error:
        PromptStyle("{input}").render(example)
    assert says in str(error.value)


def test_an_empty_system_text_is_nothing_to_drop(tmp_path: Path) -> None:
    [example] = read(tmp_path, {"messages": [{"role": "system", "content": ""}, USER, ANSWER]})
    assert PromptStyle("{input}!").render(example) == [{"role": "user", "content": "Q!"}]


def test_a_style_may_name_the_system_text(tmp_path: Path) -> None:
    [example] = read(tmp_path, {"messages": [SYSTEM, USER, ANSWER]})
    assert PromptStyle("{input}!", system="{system}").render(example) == [
        SYSTEM,
        {"role": "user", "content": "Q!"},
    ]


def test_nested_and_numeric_columns_of_parquet(tmp_path: Path) -> None:
    tables = {
        "messages": {"messages": [[{**USER, "tool_calls": None}, {**ANSWER, "tool_calls": None}]]},
        "trl": {"prompt": [[USER]], "completion": [[ANSWER]]},
        "labels": {"prompt": ["Q"], "completion": [3]},
        "dictionary": {"prompt": pyarrow.array(["Q"]).dictionary_encode(), "completion": ["A"]},
    }
    by_format = {}
    for name, columns in tables.items():
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
        [example] = read_examples(tmp_path / f"{name}.parquet")
        by_format[name] = said(example)
    question = ("user", "Q")
    answers = {"messages": "A", "trl": "A", "labels": "3", "dictionary": "A"}
    assert by_format == {
        name: [question, ("assistant", answer)] for name, answer in answers.items()
    }


def test_everyday_files_hold_the_same_examples(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i} ü", "completion": f"A{i}"} for i in range(3)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    table = "".join(f"{row['prompt']};{row['completion']}\r\n" for row in rows)
    files = {
        "bom.jsonl": lines.encode("utf-8-sig"),
        "crlf.jsonl": (lines + "\n").replace("\n", "\r\n").encode(),
        "list.json": json.dumps(rows, indent=2).encode(),
        "semicolon.csv": f"\ufeffprompt;completion\r\n{table}\r\n".encode(),
        "tabs.tsv": f"prompt\tcompletion\n{table}".replace(";", "\t").encode(),
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
        examples = read_examples(tmp_path / name)
        assert [(e.messages[0]["content"], e.completion) for e in examples] == [
            tuple(row.values()) for row in rows
        ], name
    (tmp_path / "utf16.jsonl").write_bytes(lines.encode("utf-16"))
    assert [e.completion for e in read_examples(tmp_path / "utf16.jsonl", encoding="utf-16")] == [
        "A0",
        "A1",
        "A2",
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.none() | TEXT, st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_conversation_is_the_same_in_every_shape(
    tmp_path: Path, system: str | None, turns: list[tuple[str, str]]
) -> None:
    chat = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        chat += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    human = {"user": "human", "assistant": "gpt", "system": "system"}
    *history, (question, answer) = turns
    beside = {"system": system, "history": [list(pair) for pair in history]}
    rows = [
        {"messages": chat},
        {"conversations": [{"from": human[m["role"]], "value": m["content"]} for m in chat]},
        {
            "messages": json.dumps(
                [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in chat]
            )
        },
        {"prompt": chat[:-1], "completion": chat[-1:]},
        {"prompt": question, "completion": answer, **beside},
        {"instruction": question, "input": "", "output": answer, **beside},
    ]
    examples = read(tmp_path, *rows)
    assert [said(example) for example in examples] == [
        [(m["role"], m["content"]) for m in chat]
    ] * len(rows)
    assert len({example.key for example in examples}) == 1
