"""Examples in their three shapes, and what is said of a line that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.data.examples import PromptStyle, read_examples, render
from foundation.errors import BadInput


def write(folder: Path, *rows: object) -> Path:
    file = folder / "examples.jsonl"
    file.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return file


def test_the_three_shapes_read_alike(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A"},
            ]
        },
        {"prompt": "Q", "completion": "A"},
        {"instruction": "Sort this.", "input": "Q", "output": "A"},
        {"instruction": "Q", "output": "A"},
    )
    chat, pair, alpaca, bare = read_examples(file)
    assert [e.completion for e in (chat, pair, alpaca, bare)] == ["A"] * 4
    assert chat.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Q"},
    )
    assert render(pair, None) == render(bare, None) == [{"role": "user", "content": "Q"}]
    assert render(alpaca, None) == [{"role": "user", "content": "Sort this.\n\nQ"}]
    assert [e.line for e in (chat, pair, alpaca, bare)] == [1, 2, 3, 4]


def test_a_style_words_the_question(tmp_path: Path) -> None:
    [example] = read_examples(
        write(tmp_path, {"instruction": "Sort.", "input": "a {b}", "output": "A"})
    )
    style = PromptStyle("Label {{x}}: {input}", system="You sort.")
    assert style.render(example) == [
        {"role": "system", "content": "You sort."},
        {"role": "user", "content": "Label {x}: a {b}"},
    ]
    with pytest.raises(BadInput, match=r"examples.jsonl:1: the prompt template names \{story\}"):
        PromptStyle("{story}").render(example)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("\n" + json.dumps({"prompt": "Q", "completion": "A"}), ":2: empty line"),
        ("{not json", ":2: not JSON"),
        ("[1]", ":2: not a JSON object"),
        ({"question": "Q"}, ":2: fields question; write"),
        ({"prompt": "Q", "completion": "  "}, ":2: completion: write a text that is not empty"),
        ({"prompt": 3, "completion": "A"}, ":2: prompt: write a text"),
        ({"messages": []}, ":2: messages: write a list"),
        (
            {"messages": [{"role": "user", "content": "Q"}, {"role": "user", "content": "Q"}]},
            "end with the assistant's answer",
        ),
        (
            {
                "messages": [
                    {"role": "robot", "content": "Q"},
                    {"role": "assistant", "content": "A"},
                ]
            },
            "messages[0].role: 'robot'",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Q"},
                    {"role": "assistant", "content": "A"},
                ]
            },
            "no user message",
        ),
        ({"messages": ["Q", "A"]}, "messages[0]: write"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, says: str) -> None:
    file = write(tmp_path, {"prompt": "Q", "completion": "A"}, row)
    with pytest.raises(BadInput) as error:
        read_examples(file)
    assert str(file) in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_examples(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(BadInput, match="empty; write"):
        read_examples(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("true", "true"),
        ("false", "false"),
        ("5", "5"),
        ("1.0", "1.0"),
        ("1e3", "1e3"),
        ("-0", "-0"),
        ('"null"', "null"),
    ],
)
def test_an_answer_that_is_no_text_counts_as_json_writes_it(
    tmp_path: Path, answer: str, text: str
) -> None:
    rows = (
        f'{{"prompt": "Q", "completion": {answer}}}',
        f'{{"instruction": "Q", "output": {answer}}}',
    )
    assert [example.completion for example in read_examples(write(tmp_path, *rows))] == [text, text]


@pytest.mark.parametrize("answer", ["null", "NaN", "[]", "{}", '""'])
def test_an_answer_that_is_missing_is_refused(tmp_path: Path, answer: str) -> None:
    with pytest.raises(
        BadInput, match=r"examples.jsonl:1: completion: write a text that is not empty, not "
    ):
        read_examples(write(tmp_path, f'{{"prompt": "Q", "completion": {answer}}}'))
