"""A prompt in both splits is a leak in any spelling; prompts with other words are none."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from foundation.data.examples import Example
from foundation.data.leaks import find_leaks, without_leaks
from foundation.errors import BadInput


def example(line: int, *message: str, system: str = "", file: str = "train.jsonl") -> Example:
    """Messages of user and assistant in turns, the last the user's."""
    turns = tuple(
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(message)
    )
    first = ({"role": "system", "content": system},) if system else ()
    return Example(
        Path(file), line, (*first, *turns), "answer", {"input": message[-1], "prompt": message[-1]}
    )


def held(line: int, *message: str, system: str = "") -> Example:
    return example(line, *message, system=system, file="heldout.jsonl")


@pytest.mark.parametrize(
    "other",
    [
        "STORY   3",
        "\tstory 3\n",
        "story\u00a03",
        "sto\u200bry 3",
        "ｓｔｏｒｙ ３",
    ],
)
def test_one_question_written_in_another_way_is_the_same(other: str) -> None:
    leaks = find_leaks([example(1, "else"), example(3, "story 3")], [held(7, other)])
    assert [(leak.learned.line, leak.heldout.line) for leak in leaks] == [(3, 7)]


def test_composed_and_decomposed_characters_are_the_same() -> None:
    one, other = (unicodedata.normalize(form, "Café über") for form in ("NFC", "NFD"))
    assert one != other and len(find_leaks([example(1, one)], [held(1, other)])) == 1


@pytest.mark.parametrize(
    ("learned", "heldout"),
    [
        (example(1, "the fee?", system="north: 1"), held(1, "the fee?", system="south: 1")),
        (example(1, "hello", "hi", "and now?"), held(1, "hello", "no", "and now?")),
        (example(1, "and now?"), held(1, "hello", "hi", "and now?")),
    ],
)
def test_system_text_and_earlier_turns_tell_two_prompts_apart(
    learned: Example, heldout: Example
) -> None:
    assert find_leaks([learned], [heldout]) == []


def test_fields_that_only_a_style_reads_are_part_of_the_prompt() -> None:
    def titled(title: str, file: str) -> Example:
        fields = {"prompt": "Q", "input": "Q", "title": title}
        return Example(Path(file), 1, ({"role": "user", "content": "Q"},), "A", fields)

    assert find_leaks([titled("a", "t")], [titled("b", "h")]) == []
    assert len(find_leaks([titled("a", "t")], [titled("A", "h")])) == 1


TRAIN = [example(line, f"story {line}") for line in range(1, 10)]
HELDOUT = [held(line + 20, f"Story {line}") for line in range(2, 9)]


def test_a_leak_is_refused_with_its_count_and_the_first_lines_of_both() -> None:
    with pytest.raises(BadInput) as error:
        without_leaks(TRAIN, HELDOUT, "refuse")
    message = str(error.value)
    assert message.startswith(
        "train.jsonl:2: the same question stands in the held-out split at heldout.jsonl:22 (and "
        "6 more: "
    )
    assert (
        "train.jsonl:3 = heldout.jsonl:23, " in message
        and "train.jsonl:5 = heldout.jsonl:25" in message
    )
    assert "data.on_leak: drop or allow" in message and "\n" not in message


def test_leaks_are_left_out_of_training_or_kept_where_asked_for_and_said() -> None:
    kept, message = without_leaks(TRAIN, HELDOUT, "drop")
    assert [e.line for e in kept] == [1, 9]
    assert message is not None and "train.jsonl:2" in message and "left out of training" in message
    kept, message = without_leaks(TRAIN, HELDOUT, "allow")
    assert kept == TRAIN and message is not None and "(and 6 more" in message


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(
        BadInput, match=r"^train.jsonl:1: the same .*drop leaves nothing to learn from"
    ):
        without_leaks(TRAIN, [held(n, f"story {n}") for n in range(1, 10)], "drop")


def test_no_leak_nothing_said() -> None:
    assert without_leaks(TRAIN[:1], HELDOUT, "refuse") == (TRAIN[:1], None)
