"""Datasets as prompts: lengths, shared prefixes, sessions and their turns, and faulty files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import BadInput
from foundation.run.records import Prompt
from loadgen.config import WorkloadConfig
from loadgen.prompts.conversations import read_sessions
from loadgen.prompts.datasets import MOST_SESSIONS, make_prompts, seed_of, sessions_needed
from loadgen.prompts.exact_length import Wording
from loadgen.prompts.questions import questions_of


def workload(dataset: Any, **fields: Any) -> WorkloadConfig:
    return WorkloadConfig.model_validate(
        {"stages": [{"rate": 1, "requests": 10}], "warmup": "0s", "dataset": dataset, **fields}
    )


def prompts(dataset: Any, needed: int = 40, **fields: Any) -> list[Prompt]:
    """Without a tokenizer a token is a word."""
    of = workload(dataset, **fields)
    return make_prompts(of, Wording(None, "chat", seed_of(of)), needed)


def words(prompt: Prompt) -> list[str]:
    return prompt.messages["plain"][-1]["content"].split()


def test_synthetic_prompts_are_as_long_as_they_say_and_all_different() -> None:
    written = prompts(
        {"synthetic": {"input_tokens": "uniform:40:80", "output_tokens": "uniform:1:9"}}
    )
    assert (
        len(written)
        == len({p.id for p in written})
        == len({tuple(words(p)[:8]) for p in written})
        == 40
    )
    assert [len(words(p)) for p in written] == [p.input_tokens for p in written]
    assert {40 <= p.input_tokens <= 80 and 1 <= p.output_tokens <= 9 for p in written} == {True}


def test_the_intended_share_of_cache_hits_is_the_share_of_words_in_common() -> None:
    written = prompts(
        {
            "synthetic": {
                "input_tokens": "uniform:100:200",
                "output_tokens": 1,
                "cache_hit": "60%",
                "prefixes": 4,
            }
        }
    )
    assert sum(p.shared_tokens for p in written) / sum(
        p.input_tokens for p in written
    ) == pytest.approx(0.6, abs=0.01)
    beginnings = {tuple(words(p)[:60]) for p in written}
    assert len(beginnings) == 4
    for prompt in written:
        twins = [
            other
            for other in written
            if other is not prompt and words(other)[:60] == words(prompt)[:60]
        ]
        for other in twins:
            shared = min(prompt.shared_tokens, other.shared_tokens)
            assert words(prompt)[:shared] == words(other)[:shared]
            assert words(prompt)[: shared + 8] != words(other)[: shared + 8]


def test_a_salt_draws_other_words_of_the_same_lengths() -> None:
    of = {
        "synthetic": {"input_tokens": "uniform:40:80", "output_tokens": "uniform:1:9", "turns": 2}
    }
    one, again, other = (prompts(of, cache_salt=salt) for salt in ("a", "a", "b"))
    assert one == again
    assert [p.messages for p in one] != [p.messages for p in other]
    assert [(p.id, p.after, p.input_tokens, p.output_tokens) for p in one] == [
        (p.id, p.after, p.input_tokens, p.output_tokens) for p in other
    ]


def test_turns_are_linked_and_add_what_they_are_asked_to() -> None:
    written = prompts(
        {"synthetic": {"input_tokens": 30, "output_tokens": 5, "turns": "uniform:1:4"}}
    )
    sessions = questions_of(written, "plain")
    assert len(sessions) == 40
    lengths = [1 + len(first.then) for first in sessions]
    assert {
        len(turn.messages[-1]["content"].split()) for first in sessions for turn in first.then
    } == {30}
    assert set(lengths) == {1, 2, 3, 4} and sum(lengths) == len(written)


def test_the_next_turn_holds_the_real_answer_and_knows_what_went_through_the_server() -> None:
    sharegpt = [
        Prompt(
            "0.1",
            "eval",
            {
                "plain": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "One?"},
                ]
            },
        ),
        Prompt("0.2", "eval", {"plain": [{"role": "user", "content": "Two?"}]}, after="0.1"),
    ]
    [first] = questions_of(sharegpt, "plain")
    second = first.next_turn("1!", 17)
    assert second is not None and second.id == "0.2" and second.shared_tokens == 17
    assert [m["content"] for m in second.messages] == ["Be brief.", "One?", "1!", "Two?"]
    assert [m["role"] for m in second.messages] == ["system", "user", "assistant", "user"]
    assert second.next_turn("2!", 30) is None


SHAREGPT = [
    {
        "id": "a",
        "conversations": [
            {"from": "human", "value": "Q1"},
            {"from": "gpt", "value": "A1"},
            {"from": "human", "value": "Q2"},
        ],
    },
    {"id": "b", "conversations": [{"from": "gpt", "value": "goes on"}]},
    {
        "id": "c",
        "conversations": [
            {"from": "system", "value": "S"},
            {"from": "user", "value": "Q3"},
            {"from": "bing", "value": "A3"},
        ],
    },
]


def test_sharegpt_and_messages_give_the_same_sessions(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(SHAREGPT))
    names = {
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "bing": "assistant",
        "system": "system",
    }
    rows = [
        {
            "messages": [
                {"role": names[m["from"]], "content": m["value"]} for m in row["conversations"]
            ]
        }
        for row in SHAREGPT
    ]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sessions = read_sessions(tmp_path / "a.json", None)
    assert sessions == read_sessions(tmp_path / "b.jsonl", None)
    texts = [[[m["content"] for m in turn] for turn in session] for session in sessions]
    assert texts == [[["Q1"], ["Q2"]], [["S", "Q3"]]]
    assert [len(session) for session in read_sessions(tmp_path / "a.json", 1)] == [1, 1]
    written = prompts({"sharegpt": str(tmp_path / "a.json")})
    assert sorted(p.messages["plain"][-1]["content"] for p in written) == ["Q1", "Q2", "Q3"]
    assert {p.reference for p in written} == {None}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "file:1: not a JSON object"),
        ("[{", "file:1: not JSON"),
        ('{"messages": []}\n{"prompt": "x"}', "file:2: no conversation"),
        (
            '{"messages": [{"role": "tool", "content": "x"}]}',
            "1 of 1 conversations can't be asked .*file:1: messages: tools",
        ),
        ('[{"conversations": [{"from": "human"}]}]', r"1 of 1 .*file:1: conversations\[0\]: write"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "no conversation with a user"),
        ("", "no conversation with a user"),
    ],
)
def test_what_is_no_conversation_is_named_by_its_place(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(BadInput, match=says):
        read_sessions(tmp_path / "file", None)


def trace(tmp_path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    file = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"trace": str(file)}


def test_a_trace_s_prompts_have_its_lengths_and_share_its_blocks(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1200, "output_length": 3, "hash_ids": [7, 8, 9]},
        {"timestamp": 5, "input_length": 700, "output_length": 5, "hash_ids": [8, 7]},
        {"timestamp": 9, "input_length": 1600, "output_length": 4, "hash_ids": [7, 8, 10, 11]},
    ]
    first, second, third = prompts(trace(tmp_path, rows))
    assert [(p.input_tokens, p.output_tokens, p.shared_tokens) for p in (first, second, third)] == [
        (1200, 3, 0),
        (700, 5, 0),  # the same blocks in another order are another prefix
        (1600, 4, 1024),
    ]
    assert (
        words(first)[:1024] == words(third)[:1024]
        and words(first)[1024:1100] != words(third)[1024:1100]
    )
    assert [len(words(p)) for p in (first, second, third)] == [1200, 700, 1600]
    assert words(second)[:512] == words(first)[512:1024]


def test_a_bailian_trace_s_blocks_are_16_tokens(tmp_path: Path) -> None:
    rows = [
        {"chat_id": i, "timestamp": i, "input_length": 60, "output_length": 3, "hash_ids": [7, 8]}
        for i in range(2)
    ]
    first, second = prompts(trace(tmp_path, rows))
    assert (
        second.shared_tokens == 32
        and words(first)[:32] == words(second)[:32]
        and words(first)[32:] != words(second)[32:]
    )


def test_a_trace_s_own_texts_are_asked(tmp_path: Path) -> None:
    rows = [
        {"timestamp": i, "text_input": f"Tell me\u2028about {i}", "hash_ids": [1]} for i in range(3)
    ]
    written = prompts(
        trace(
            tmp_path,
            [*rows, {"timestamp": 3, "input_length": 30, "output_length": 4, "hash_ids": [1]}],
        )
    )
    assert [p.messages["plain"][-1]["content"] for p in written[:3]] == [
        f"Tell me\u2028about {i}" for i in range(3)
    ]
    assert {(p.input_tokens, p.output_tokens, p.shared_tokens) for p in written[:3]} == {
        (None, None, None)
    }
    assert (written[3].input_tokens, written[3].output_tokens, written[3].shared_tokens) == (
        30,
        4,
        0,
    )


def test_a_trace_s_sessions_have_their_turns_and_pauses(tmp_path: Path) -> None:
    rows = [
        {"session_id": "a", "timestamp": 1000, "input_length": 40, "output_length": 6},
        {"session_id": "a", "delay": 300, "input_length": 20, "output_length": 7},
        {"timestamp": 1500, "input_length": 40, "output_length": 6},
        {"session_id": "a", "timestamp": 4000, "text_input": "And?", "output_length": 8},
    ]
    written = prompts(trace(tmp_path, rows))
    assert [(p.id, p.after, p.output_tokens, p.delay_s, p.at_s) for p in written] == [
        ("00000.1", None, 6, None, None),
        ("00000.2", "00000.1", 7, 0.3, None),
        ("00000.3", "00000.2", 8, None, 3.0),
        ("00001", None, 6, None, None),
    ]
    assert [len(words(p)) for p in written] == [40, 20, 1, 40]
    session, alone = questions_of(written, "plain")
    assert [turn.delay_s for turn in session.then] == [0.3, None] and not alone.then


def test_a_part_of_a_trace_is_asked_in_the_same_words(tmp_path: Path) -> None:
    rows = [{"at": 10 * i, "input_tokens": 40 + i, "output_tokens": 3} for i in range(6)]
    of = trace(tmp_path, rows)
    part = prompts({"trace": {"file": of["trace"], "offset": "20s", "length": "20s"}})
    assert [p.input_tokens for p in part] == [42, 43]
    assert [p.messages for p in part] == [p.messages for p in prompts(of)[2:4]]


def test_a_trace_without_lengths_can_not_be_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=":1: a prompt lacks input or output tokens"):
        prompts(trace(tmp_path, [{"at": 1.5, "input_tokens": 10}]))
    for row, says in (
        ({"at": 0, "input_tokens": "x"}, "1: input_tokens: 'x'"),
        ({"at": 0, "hash_ids": 4}, "1: hash_ids"),
    ):
        with pytest.raises(BadInput, match=says):
            prompts(trace(tmp_path, [row]))


def test_there_are_prompts_enough_that_none_comes_twice() -> None:
    of = {"synthetic": {"input_tokens": 40, "output_tokens": 1}}
    assert sessions_needed(workload(of, blocks=3)) == 30
    closed = workload(of, stages=[{"concurrency": 4, "requests": 10}], blocks=3)
    assert sessions_needed(closed) == 3 * (10 + 4)
    assert (
        sessions_needed(workload(of, stages=[{"rate": 5000, "duration": "20s"}])) == MOST_SESSIONS
    )


def test_a_prompt_shorter_than_its_template_is_refused() -> None:
    with pytest.raises(BadInput, match=r"input_tokens: 5: .* write at least 8"):
        prompts({"synthetic": {"input_tokens": 5, "output_tokens": 1}})


@pytest.mark.parametrize("dataset", ["synthetic", {}, {"trace": "a", "sharegpt": "b"}])
def test_a_dataset_is_one_thing(dataset: str | dict[str, object]) -> None:
    with pytest.raises(ValueError, match="write eval"):
        workload(dataset)
