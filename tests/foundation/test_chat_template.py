"""A chat template keeps all parts of an example, and the answer is tokenized in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foundation.data.examples import Example
from foundation.errors import BadInput
from foundation.models.chat_template import templated, tokens_in_place
from tests.tiny_model import CHAT_TEMPLATE, write_llama2_tokenizer, write_tokenizer

TOOLS = ({"type": "function", "function": {"name": "open"}},)
CALLS = {"tool_calls": [{"type": "function", "function": {"name": "open", "arguments": {"n": 1}}}]}
WITH_TOOLS = (
    "{% if tools %}tools: {{ tools | tojson }}\n"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls %}{{ call.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(folder: Path, template: str = CHAT_TEMPLATE) -> Any:
    from transformers import AutoTokenizer

    write_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(template)
    return AutoTokenizer.from_pretrained(folder)


def example(answer: str = "earn", **more: Any) -> Example:
    return Example(
        Path("d.jsonl"), 3, ({"role": "user", "content": "Q"},), answer, {"input": "Q"}, **more
    )


def test_tools_and_calls_stand_where_the_template_puts_them(tmp_path: Path) -> None:
    templates, whole = templated(
        example("", tools=TOOLS, answer_keys=CALLS), None, tokenizer(tmp_path, WITH_TOOLS)
    )
    opening = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    assert templates == 'tools: [{"type": "function", "function": {"name": "open"}}]\n' + opening
    assert whole.removeprefix(templates) == '{"name": "open", "arguments": {"n": 1}}<|im_end|>\n'


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"answer_keys": CALLS}, "tool_calls"),
        ({"answer_keys": {"reasoning_content": "hm"}}, "reasoning_content"),
        ({"answer_keys": {"name": "bot"}}, "name"),
    ],
)
def test_what_the_template_leaves_out_is_refused_with_the_way_out(
    tmp_path: Path, more: dict[str, Any], key: str
) -> None:
    says = rf"d.jsonl:3: the model's chat template leaves out '{key}'.*data.ignore: \[{key}\]"
    with pytest.raises(BadInput, match=says):
        templated(example(**more), None, tokenizer(tmp_path))


def test_a_user_s_name_is_refused_where_the_template_leaves_it_out_and_kept_where_not(
    tmp_path: Path,
) -> None:
    named = Example(Path("d.jsonl"), 3, ({"role": "user", "content": "Q", "name": "ann"},), "A", {})
    with pytest.raises(BadInput, match="leaves out 'name'"):
        templated(named, None, tokenizer(tmp_path))
    words_it = CHAT_TEMPLATE.replace(
        "{{ message['content'] }}", "{{ message.name }}: {{ message['content'] }}"
    )
    assert "ann: Q" in templated(named, None, tokenizer(tmp_path, words_it))[0]


DEAF = (
    "{% for m in messages if m.role in ('user', 'assistant') %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("role", ["system", "tool"])
def test_a_template_that_leaves_out_a_message_is_refused(tmp_path: Path, role: str) -> None:
    messages = ({"role": role, "content": "assistant"}, {"role": "user", "content": "Q"})
    dialogue = Example(Path("d.jsonl"), 3, messages, "A", {})
    with pytest.raises(
        BadInput,
        match=f"d.jsonl:3: the model's chat template leaves out what the {role} says .'assistant'",
    ):
        templated(dialogue, None, tokenizer(tmp_path, DEAF))
    assert templated(dialogue, None, tokenizer(tmp_path))[0].startswith(
        f"<|im_start|>{role}\nassistant<|im_end|>"
    )


ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
COLON = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if "
    "add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        # The template writes the space: one, not two.
        (None, ["▁earn", "▁", "</s>"]),
        # It writes a line end before the answer: no space at all.
        (ZEPHYR, ["earn", "</s>"]),
        # It ends in a space, which joins the answer's token: the server's prompt ends with it.
        (COLON, ["earn", "</s>"]),
    ],
)
def test_an_answer_has_no_space_that_its_template_does_not_write(
    tmp_path: Path, template: str | None, answer: list[str]
) -> None:
    from transformers import AutoTokenizer

    write_llama2_tokenizer(tmp_path, *([template] if template else []))
    tokens = AutoTokenizer.from_pretrained(tmp_path)
    templates, whole = templated(example(), None, tokens)
    [(prompt, learned)] = tokens_in_place(
        tokens, [("d.jsonl:3", templates, whole.removeprefix(templates))]
    )
    assert tokens.convert_ids_to_tokens(learned) == answer
    assert prompt == tokens(templates, add_special_tokens=False)["input_ids"]
    alone = tokens(whole.removeprefix(templates), add_special_tokens=False)["input_ids"]
    assert alone != learned, "this tokenizer shows the difference"
    assert tokens.decode(prompt + learned) == tokens.decode(
        tokens(whole, add_special_tokens=False)["input_ids"]
    )


def test_bytes_are_tokenized_in_place_as_alone(tmp_path: Path) -> None:
    tokens = tokenizer(tmp_path)
    for answer in ("earn", " earn", "\nearn", "é\U0001f600", "\n\n"):
        [(prompt, learned)] = tokens_in_place(tokens, [("d.jsonl:3", "user\n", answer)])
        assert (prompt, learned) == tuple(
            tokens(text, add_special_tokens=False)["input_ids"] for text in ("user\n", answer)
        )
