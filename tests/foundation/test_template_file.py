"""Chat templates of a folder: transformers' places and results; broken ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pytest

from foundation.errors import BadInput
from foundation.models.template_file import check_template, read_template, render_chat

CHAT = [{"role": "system", "content": "Be <brief>."}, {"role": "user", "content": "Hé?"}]


def settings(folder: Path, template: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": template, "eos_token": {"content": "</s>"}})
    )
    return folder


def test_a_file_comes_before_the_settings(tmp_path: Path):
    assert read_template(tmp_path) is None
    settings(tmp_path, "inline")
    assert read_template(tmp_path) == "inline"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert read_template(tmp_path) == "file"
    (tmp_path / "chat_template.jinja").write_text(" \n")
    assert read_template(tmp_path) is None


def test_the_default_one_of_several(tmp_path: Path):
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert read_template(settings(tmp_path, named)) == "d"
    assert read_template(settings(tmp_path, named[:1])) is None


def test_settings_that_are_no_template(tmp_path: Path):
    with pytest.raises(
        BadInput, match=r"tokenizer_config\.json: chat_template: write the template's text"
    ):
        read_template(settings(tmp_path, {"default": "d"}))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(BadInput, match=r"tokenizer_config\.json: not JSON"):
        read_template(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "{%- for m in messages %}\n  <{{ m.role }}>{{ m.content | tojson }}\n"
        "{% endfor %}{{ eos_token }}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{{ "
        "missing }}{% endfor %}",
        "{% for m in messages %}{% generation %} {{ m.content }} {% endgeneration %}{% endfor %}",
        "{% if add_generation_prompt %}[{{ messages | "
        "length }}]{% endif %}{% if tools %}no{% endif %}",
    ],
)
def test_it_renders_as_transformers_does(template: str):
    from transformers.utils.chat_template_utils import render_jinja_template

    [theirs], _ = render_jinja_template(
        [CHAT], chat_template=template, add_generation_prompt=True, eos_token="</s>"
    )
    assert render_chat(template, CHAT, {"eos_token": "</s>"}) == theirs


def test_a_broken_template_and_one_that_refuses(tmp_path: Path):
    folder = settings(tmp_path / "a", "")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}")
    with pytest.raises(
        BadInput, match=r"chat_template\.jinja: the chat template is broken \(line 1: .*endfor"
    ):
        check_template(folder, "{% for m in messages %}", CHAT)
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    )
    with pytest.raises(
        BadInput, match=r"refuses the first prompt, of system, user \(no system turns\)"
    ):
        check_template(settings(tmp_path / "b", refusing), refusing, CHAT)
    check_template(folder, refusing, CHAT[1:])
    with pytest.raises(jinja2.TemplateError):
        render_chat(refusing, CHAT, {})
