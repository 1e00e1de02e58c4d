from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune import check
from finetune.config import FinetuneConfig
from finetune.data import prepare
from finetune.job import TrainingJob
from finetune.tokens import MIN_SHARED_PREFIX, ExampleTokens, encode, shared_prefix
from foundation.data.examples import PromptStyle
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from tests.finetune.conftest import example
from tests.tiny_model import CHAT_TEMPLATE

CONFIG = FinetuneConfig(max_length=256)
TRAIN = [example(f"story {i}", "earn", i) for i in range(1, 5)]
HELDOUT = [example("another story", "acq", 1, "heldout.jsonl")]
IM_END = 2


@pytest.fixture(scope="module")
def tokenizer(base: ModelRef):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base.path)


def changed(
    base: ModelRef, folder: Path, template: str = CHAT_TEMPLATE, **config: object
) -> ModelRef:
    """A copy of the base with another template or configuration."""
    shutil.copytree(base.path, folder)
    (folder / "chat_template.jinja").write_text(template)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return ModelRef(base.id, base.revision, folder)


def test_the_loss_covers_the_answer_and_its_end_of_turn_and_nothing_else(tokenizer) -> None:
    [tokens] = encode([example("What is it?", "earn")], None, tokenizer, frozenset({IM_END}))
    assert tokenizer.decode(tokens.completion) == "earn<|im_end|>"
    assert (
        tokenizer.decode(tokens.prompt)
        == "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n"
    )


@given(question=st.text(min_size=1), answer=st.text(min_size=1).filter(str.strip))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_from_its_tokens(tokenizer, question: str, answer: str) -> None:
    question, answer = (t.encode("utf-8", "ignore").decode() for t in (question, answer))
    if not answer.strip():
        return
    [tokens] = encode([example(question, answer)], None, tokenizer, frozenset({IM_END}))
    assert tokenizer.decode(tokens.completion) == f"{answer}<|im_end|>"


def test_the_prompt_is_what_a_server_will_be_sent(tokenizer) -> None:
    style = PromptStyle("Topic of: {input}", system="Be brief.")
    [tokens] = encode([example("oil", "crude")], style, tokenizer, frozenset({IM_END}))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Topic of: oil"},
    ]
    assert (
        tokens.prompt
        == tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    )


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=2, max_size=6),
    st.lists(st.integers(0, 2), max_size=20),
)
def test_shared_prefix_is_the_longest_that_leaves_every_prompt_a_token(
    own: list[list[int]], common: list[int]
) -> None:
    prompts = [common + tail for tail in own]
    expected = os.path.commonprefix([p[:-1] for p in prompts])  # noqa: RUF071
    found = shared_prefix([ExampleTokens("x", p, [9]) for p in prompts])
    assert found == (expected if len(expected) >= MIN_SHARED_PREFIX else [])


def test_report_counts_what_is_there(base: ModelRef, tokenizer) -> None:
    report = check(
        TrainingJob(CONFIG, base, [*TRAIN, example("Story  1", "acq", 5)], HELDOUT, None)
    )
    rendered = [
        f"<|im_start|>user\n{e.messages[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
        "earn<|im_end|>"
        for e in TRAIN
    ]
    lengths = [len(tokenizer(text)["input_ids"]) for text in rendered]
    assert (report.train, report.heldout, report.duplicates) == (5, 1, 1)
    assert (
        report.tokens == sum(lengths) + lengths[0]
    )  # "Story  1" and "acq" weigh what "story 1" and "earn" do
    assert report.trained_tokens == 4 * len("earn") + len("acq") + 5
    assert report.sample.endswith("⟦earn<|im_end|>⟧")
    assert report.labels == {"earn": 4, "acq": 1}
    assert "| earn | 4 | 80.0% |" in report.text() and report.sample in report.text()


def test_held_out_questions_that_differ_in_numbers_only_are_counted(base: ModelRef) -> None:
    close = [*HELDOUT, example("Story... 99!", "earn", 2, "heldout.jsonl")]
    assert (
        check(TrainingJob(CONFIG, base, TRAIN, HELDOUT, None)).leaks,
        check(TrainingJob(CONFIG, base, TRAIN, close, None)).leaks,
    ) == (0, 1)


def test_limit_is_a_seeded_sample_and_never_held_out(base: ModelRef) -> None:
    train = [example(f"story {i}", "earn", i) for i in range(1, 41)]

    def lines(seed: int) -> list[str]:
        config = FinetuneConfig(limit=10, seed=seed)
        return [t.where for t in prepare(TrainingJob(config, base, train, HELDOUT, None)).train]

    assert lines(0) == lines(0) != lines(1)
    assert len(set(lines(0))) == 10
    assert not any("heldout" in where for where in lines(0))


def test_nothing_to_learn_from(base: ModelRef) -> None:
    with pytest.raises(BadInput, match=r"data\.train"):
        check(TrainingJob(CONFIG, base, [], HELDOUT, None))


def test_too_long_names_line_tokens_and_remedy(base: ModelRef) -> None:
    long = example("x" * 300, "earn", 9)
    with pytest.raises(
        BadInput,
        match=r"^train\.jsonl:9: \d+ tokens, over finetune\.max_length 256; raise it or shorten",
    ):
        check(TrainingJob(CONFIG, base, [*TRAIN, long], HELDOUT, None))
    with pytest.raises(BadInput, match=r"over the context of test/tiny-chat 2048 \(and 1 more"):
        huge = [example("x" * 2100 + str(i), "earn", i) for i in (1, 2)]
        check(TrainingJob(FinetuneConfig(max_length=4096), base, huge, [], None))


def test_what_is_too_long_is_dropped_or_truncated_where_asked_for(base: ModelRef) -> None:
    mixed = [*TRAIN, example("a question", "x" * 300, 9)]
    dropped = prepare(
        TrainingJob(CONFIG.model_copy(update={"too_long": "drop"}), base, mixed, [], None)
    )
    assert (dropped.report.train, dropped.report.dropped, dropped.report.truncated) == (4, 1, 0)
    cut = prepare(
        TrainingJob(CONFIG.model_copy(update={"too_long": "truncate"}), base, mixed, [], None)
    )
    assert (cut.report.train, cut.report.dropped, cut.report.truncated) == (5, 0, 1)
    assert len(cut.train[4]) == 256 and IM_END not in cut.train[4].completion
    assert "1 completions truncated" in str(cut.report)
    with pytest.raises(
        BadInput,
        match=r"^train\.jsonl:8: every label would be masked: the prompt alone has \d+ tokens",
    ):
        prepare(
            TrainingJob(
                CONFIG.model_copy(update={"too_long": "truncate"}),
                base,
                [example("y" * 300, "x", 8)],
                [],
                None,
            ),
        )
    with pytest.raises(BadInput, match="drop leaves no example"):
        prepare(
            TrainingJob(
                CONFIG.model_copy(update={"too_long": "drop"}),
                base,
                [example("y" * 300, "x", 8)],
                [],
                None,
            ),
        )


TURNS = "{% for message in messages %}"
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            TURNS
            + (
                "{% if message['role'] != 'assistant' %}{{ message['content'] }}{% endif %}{% "
                "endfor %}"
            ),
            "drops the assistant's answer",
        ),
        (TURNS + "{{ message['role'] + message['content'] }}{% endfor %}", "no end of turn"),
        (
            "{{ messages | length }}" + TURNS + "{{ message['content'] }}<|im_end|>{% endfor %}",
            "words the question otherwise",
        ),
        ("{{ raise_exception('users only') }}", "refuses these messages .users only"),
        ("", "no chat template"),
    ],
)
def test_templates_that_can_not_teach(
    base: ModelRef, tmp_path: Path, template: str, message: str
) -> None:
    model = changed(base, tmp_path / "model", template)
    if not template:
        (model.path / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match=message):
        check(TrainingJob(CONFIG, model, TRAIN, HELDOUT, None))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM; finetune needs a causal LM"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "already quantized"),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}},
            "code of its own, which is not run unless asked for",
        ),
    ],
)
def test_bases_that_can_not_be_tuned(
    base: ModelRef, tmp_path: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check(
            TrainingJob(CONFIG, changed(base, tmp_path / "model", **config), TRAIN, HELDOUT, None)
        )


def test_pickle_weights_are_refused(base: ModelRef, tmp_path: Path) -> None:
    model = changed(base, tmp_path / "model")
    next(model.path.glob("*.safetensors")).rename(model.path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickle weights are not loaded"):
        check(TrainingJob(CONFIG, model, TRAIN, HELDOUT, None))


@pytest.mark.parametrize(
    ("targets", "message"),
    [(("q_prj",), r"no module 'q_prj' .did you mean 'q_proj'"), ("lm_head", "no server takes")],
)
def test_target_modules_are_checked_against_the_weights(
    base: ModelRef, targets: str | tuple[str, ...], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check(TrainingJob(FinetuneConfig(target_modules=targets), base, TRAIN, HELDOUT, None))


def test_importing_the_rooms_loads_no_torch() -> None:
    code = (
        "import finetune, quantize, sys; sys.exit('torch' in sys.modules or 'transformers' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
