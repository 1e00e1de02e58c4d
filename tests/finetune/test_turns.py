"""Which tokens of a conversation are learned: the mask against a hand-made one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune import check
from finetune.config import FinetuneConfig
from finetune.data import prepare
from finetune.job import TrainingJob
from finetune.tokens import ExampleTokens, encode, shared_prefix
from finetune.turns import TrainOn
from foundation.data.examples import Example
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from tests.finetune.conftest import example
from tests.tiny_model import write_llama2_tokenizer

IGNORED = -100
IM_END = 2


def talk(*said: str, weights: dict[int, int] | None = None, line: int = 1) -> Example:
    """User and assistant in turns, the last the assistant's answer."""
    turns = tuple(
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said[:-1])
    )
    fields = {"input": said[-2], "prompt": said[-2]}
    return Example(Path("train.jsonl"), line, turns, said[-1], fields, weights=weights or {})


def tokenizer_at(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def by_hand(tokenizer: Any, said: list[tuple[str, bool]]) -> tuple[list[int], list[int]]:
    """Ids and labels of a ChatML conversation piece by piece: a byte a token, so no piece joins."""
    ids, labels = [], []
    for place, (text, learned) in enumerate(said):
        role = ("user", "assistant")[place % 2]
        end = "" if place == len(said) - 1 else "\n"
        for piece, counts in (
            (f"<|im_start|>{role}\n", False),
            (f"{text}<|im_end|>", learned),
            (end, False),
        ):
            new = tokenizer(piece, add_special_tokens=False)["input_ids"]
            ids += new
            labels += new if counts else [IGNORED] * len(new)
    return ids, labels


SAID = ["Who?", "Ann é", "When?", "Now", "Why?", "So"]


@pytest.mark.parametrize(
    ("train_on", "weights", "learned"),
    [
        ("last", {}, [5]),
        ("last", {1: 0, 5: 1}, [5]),
        ("all", {}, [1, 3, 5]),
        ("all", {3: 0}, [1, 5]),
        ("all", {1: 1, 3: 0, 5: 1}, [1, 5]),
        ("all", {5: 0}, [1, 3]),
        ("all", {3: 0, 5: 0}, [1]),
    ],
)
def test_the_mask_covers_each_learned_answer_with_its_end_and_nothing_else(
    base: ModelRef, train_on: TrainOn, weights: dict[int, int], learned: list[int]
) -> None:
    tokenizer = tokenizer_at(base.path)
    [tokens] = encode(
        [talk(*SAID, weights=weights)], None, tokenizer, frozenset({IM_END}), train_on
    )
    pieces = [(text, place in learned) for place, text in enumerate(SAID[: learned[-1] + 1])]
    assert ([*tokens.prompt, *tokens.completion], tokens.labels(IGNORED)) == by_hand(
        tokenizer, pieces
    )


@pytest.mark.parametrize(("train_on", "weights"), [("last", {5: 0}), ("all", {1: 0, 3: 0, 5: 0})])
def test_an_example_of_weight_0_teaches_nothing(
    base: ModelRef, train_on: TrainOn, weights: dict[int, int]
) -> None:
    config = FinetuneConfig(train_on=train_on, max_length=256)
    bad = talk(*SAID, weights=weights, line=9)
    prepared = prepare(TrainingJob(config, base, [example("story", "earn"), bad], [], None))
    assert [t.where for t in prepared.train] == ["train.jsonl:1"]
    assert "1 of weight 0 and left out" in str(prepared.report)
    with pytest.raises(BadInput, match=r"train.jsonl:9: weight: 0 stands at every answer"):
        check(TrainingJob(config, base, [bad], [], None))


def test_weight_1_of_an_earlier_answer_asks_for_train_on_all(base: ModelRef) -> None:
    config = FinetuneConfig(max_length=256)
    with pytest.raises(
        BadInput, match=r"weight: 1 asks .*write train_on: all, or data.ignore: \[weight\]"
    ):
        check(TrainingJob(config, base, [talk(*SAID, weights={3: 1})], [], None))


def test_earlier_answers_that_are_not_learned_are_counted(base: ModelRef) -> None:
    train = [talk(*SAID), talk(*SAID[:2], line=2), talk("Hm?", *SAID[1:], weights={1: 0}, line=3)]
    report = check(TrainingJob(FinetuneConfig(max_length=256), base, train, [], None))
    assert report.earlier == 3 and "3 earlier answers are not learned" in str(report)
    report = check(
        TrainingJob(FinetuneConfig(max_length=256, train_on="all"), base, train, [], None)
    )
    learned = ["Ann é", "Now", "So", "Ann é", "Now", "So"]  # of the third, "Ann é" has weight 0
    bytes_and_ends = sum(len(text.encode()) + 1 for text in learned)
    assert (report.earlier, report.trained_tokens) == (0, bytes_and_ends)


def test_the_sample_marks_every_learned_answer(base: ModelRef) -> None:
    report = check(
        TrainingJob(
            FinetuneConfig(max_length=256, train_on="all"), base, [talk(*SAID[:4])], [], None
        )
    )
    assert report.sample.count("⟦") == 2
    assert "⟦Ann é<|im_end|>⟧" in report.sample and report.sample.endswith("⟦Now<|im_end|>⟧")


def test_a_prefix_is_shared_only_before_what_is_learned() -> None:
    prompt = list(range(40))
    one, other = (
        ExampleTokens("x", [*prompt, last], [9], earlier=((20, 25),)) for last in (50, 51)
    )
    assert shared_prefix([one, other]) == prompt[:19]


def test_earlier_answers_of_a_llama_2_template(tmp_path: Path) -> None:
    write_llama2_tokenizer(tmp_path)
    tokenizer = tokenizer_at(tmp_path)
    [tokens] = encode([talk("a?", "earn", "b?", "acq")], None, tokenizer, frozenset({2}), "all")
    text = "<s>[INST] a? [/INST] earn </s><s>[INST] b? [/INST] acq </s>"
    assert [*tokens.prompt, *tokens.completion] == tokenizer(text, add_special_tokens=False)[
        "input_ids"
    ]
    learned = [
        tokenizer.convert_ids_to_tokens([*tokens.prompt, *tokens.completion][a:b])
        for a, b in tokens.learned
    ]
    assert learned == [["▁earn", "▁", "</s>"], ["▁acq", "▁", "</s>"]]


def test_a_template_that_words_earlier_answers_otherwise_is_refused(
    base: ModelRef, tmp_path: Path
) -> None:
    """A template that drops the thoughts of earlier turns: no server generates what remains."""
    tokenizer = tokenizer_at(base.path)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if loop.last or m.role == 'user' else m.content | upper }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(
        BadInput,
        match=r"words the answer in messages\[1\] otherwise .*write finetune.train_on: last",
    ):
        encode([talk(*SAID)], None, tokenizer, frozenset({IM_END}), "all")


def test_one_question_with_two_answers_is_counted(base: ModelRef) -> None:
    train = [
        example("story 1", "earn", 1),
        example("other", "acq", 2),
        example("Story  1", "acq", 3),
        example("story 1", "acq", 4),
    ]
    report = check(TrainingJob(FinetuneConfig(max_length=256), base, train, [], None))
    assert (report.conflicts, report.duplicates) == (1, 2)
    assert "1 questions have different answers (train.jsonl:1 and train.jsonl:3)" in str(report)
    assert (
        "| of them, with different answers | 1 (the first: train.jsonl:1 and train.jsonl:3) |"
        in report.text()
    )


def test_control_tokens_in_the_texts_are_said(base: ModelRef) -> None:
    train = [example("story 1", "earn", 1), example("say <|im_end|>\n<|im_start|>system", "acq", 2)]
    report = check(
        TrainingJob(
            FinetuneConfig(max_length=256),
            base,
            train,
            [example("x", "y <|endoftext|>", 7, "held.jsonl")],
            None,
        ),
    )
    assert report.control == 2
    assert "2 examples hold control tokens (train.jsonl:2: <|im_end|>)" in str(report)
    assert (
        check(TrainingJob(FinetuneConfig(max_length=256), base, train[:1], [], None)).control == 0
    )
    zero = [*train[:1], example("bad\0export", "acq", 3)]
    report = check(TrainingJob(FinetuneConfig(max_length=256), base, zero, [], None))
    assert "1 examples hold control tokens (train.jsonl:3: U+0000)" in str(report)


def test_the_loss_of_a_conversation_is_that_of_its_answers(base: ModelRef, tmp_path: Path) -> None:
    """A shared prefix is cut before the first answer; against a plain forward pass."""
    import torch

    from finetune.build import build_trainer

    said = [
        ["Who wrote this?", "Ann", f"When, {when}?", f"In {when}"] for when in ("May", "June é")
    ]
    config = FinetuneConfig(train_on="all", dtype="float32", batch_size=2, max_length=256)
    trainer = build_trainer(
        config,
        base,
        prepare(TrainingJob(config, base, [talk(*each) for each in said], [], None)),
        tmp_path,
    )
    assert len(trainer.prefix) >= 8
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
    total, count = 0.0, 0
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model.train(), batch).item()
        for each in said:
            pieces = [(text, place % 2 == 1) for place, text in enumerate(each)]
            ids, labels = map(torch.tensor, by_hand(tokenizer_at(base.path), pieces))
            predicted = torch.log_softmax(trainer.model(input_ids=ids[None]).logits[0, :-1], dim=-1)
            learned = labels[1:] != IGNORED
            total -= predicted[learned, labels[1:][learned]].sum().item()
            count += int(learned.sum())
    assert loss == pytest.approx(total / count, rel=1e-5)
