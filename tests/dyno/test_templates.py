"""The template of a variant's prompts; models that can't chat; notes on differing templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyno.checks.templates import check_templates, template_notes
from dyno.experiment.schema import Experiment
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.run.layout import RunDirectory
from foundation.run.records import Prompt
from serve import check
from tests.serve.adapter_bytes import matrices, write_adapter, write_base

BASE, OTHER = "base: {{ messages[0].content }}", "other: {{ messages[0].content }}"


@pytest.fixture
def model(tmp_path: Path) -> ModelRef:
    model = write_base(tmp_path / "model")
    (model.path / "chat_template.jinja").write_text(BASE)
    return model


def adapter(folder: Path, template: str | None = None, *, inline: bool = False) -> Path:
    write_adapter(folder, matrices())
    if template and inline:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    elif template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def prepared(
    model: ModelRef, where: Path, variants: list[dict[str, Any]], **sections: Any
) -> Prepared:
    raw = {
        "name": "x",
        "model": "model",
        "data": {"eval": "e.jsonl"},
        "variants": variants,
        "baseline": variants[0]["name"],
        "workload": {"stages": [{"concurrency": 1, "requests": 1}]},
        "serve": {"kv_cache": "64MiB", "memory": "64GB"},
        **sections,
    }
    experiment = Experiment.model_validate(raw)
    prompts = [
        Prompt(
            "0",
            "eval",
            {
                "plain": [{"role": "user", "content": "Hi"}],
                "short": [{"role": "user", "content": "H"}],
            },
        )
    ]
    return Prepared(experiment, where, {"model": model}, [], [], prompts, None, {})


def test_adapters_trained_with_different_templates_are_served_with_them(
    tmp_path: Path, model: ModelRef
):
    for name, template, inline in (
        ("same", BASE, False),
        ("none", None, False),
        ("a", OTHER, False),
        ("b", OTHER, True),
    ):
        adapter(tmp_path / name, template, inline=inline)
    variants = [
        {"name": "base"},
        *({"name": name, "adapter": name} for name in ("same", "none", "a", "b")),
    ]
    made = prepared(model, tmp_path, variants)
    check_templates(made)
    run = RunDirectory(tmp_path / "run")
    plan = check(
        [served_variant(made, v, run) for v in made.experiment.variants], made.experiment.serve
    )
    assert {
        server.name: ([v.name for v in server.variants], server.template) for server in plan.servers
    } == {
        "base": (["base"], None),
        "same": (["same", "none"], None),
        "a": (["a", "b"], OTHER),
    }
    assert {variant.api for server in plan.servers for variant in server.variants} == {"chat"}
    assert template_notes(made) == {
        name: [f"asked through another chat template than base: that of {name}"]
        for name in ("a", "b")
    }
    merged = prepared(model, tmp_path, [{"name": "base"}, {"name": "m", "merge": "a"}])
    assert template_notes(merged) == {
        "m": ["asked through another chat template than base: that of a"]
    }


def test_a_template_to_train_with_is_served_before_the_adapter_is_there(
    tmp_path: Path, model: ModelRef
):
    (tmp_path / "mine.jinja").write_text(OTHER)
    variants = [
        {"name": "base"},
        {"name": "tuned", "adapter": "finetune"},
        {"name": "merged", "merge": "finetune"},
    ]
    sections = {
        "data": {"eval": "e.jsonl", "train": "t.jsonl"},
        "finetune": {"chat_template": str(tmp_path / "mine.jinja")},
    }
    made = prepared(model, tmp_path, variants, **sections)
    run = RunDirectory(tmp_path / "run")
    assert [served_variant(made, v, run).template for v in made.experiment.variants] == [
        None,
        OTHER,
        None,
    ]  # merged: it lies in the folder
    said = "asked through another chat template than base: that of mine.jinja"
    assert template_notes(made) == {"tuned": [said], "merged": [said]}
    (tmp_path / "mine.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(BadInput, match=r"mine\.jinja: the chat template refuses the first prompt"):
        check_templates(made)


def test_one_template_for_every_server_is_nobodys_own(tmp_path: Path, model: ModelRef):
    adapter(tmp_path / "a", OTHER)
    engine = {"kv_cache": "64MiB", "memory": "64GB", "engine": {"chat_template": "/x.jinja"}}
    made = prepared(
        model, tmp_path, [{"name": "base"}, {"name": "a", "adapter": "a"}], serve=engine
    )
    assert (
        served_variant(made, made.experiment.variants[1], RunDirectory(tmp_path)).template is None
    )
    assert template_notes(made) == {}
    with pytest.raises(
        BadInput,
        match=r"serve\.engine\.chat-template: x\.jinja: no such file; write the absolute path",
    ):
        check_templates(
            prepared(
                model,
                tmp_path,
                [{"name": "base"}],
                serve=engine | {"engine": {"chat_template": "x.jinja"}},
            )
        )


def test_a_model_that_can_not_chat(tmp_path: Path):
    silent = write_base(tmp_path / "model")
    adapter(tmp_path / "a", OTHER)
    with pytest.raises(
        BadInput, match=r"variants\.base: .*model has no chat template.*write api: completions"
    ):
        check_templates(prepared(silent, tmp_path, [{"name": "base"}]))
    check_templates(prepared(silent, tmp_path, [{"name": "tuned", "adapter": "a"}]))
    completions = {"api": "completions", "stages": [{"concurrency": 1, "requests": 1}]}
    check_templates(prepared(silent, tmp_path, [{"name": "base"}], workload=completions))


def test_a_template_that_is_broken_or_refuses_the_prompts(tmp_path: Path, model: ModelRef):
    adapter(tmp_path / "a", "{% if %}")
    with pytest.raises(BadInput, match=r"a/chat_template\.jinja: the chat template is broken"):
        check_templates(prepared(model, tmp_path, [{"name": "base"}, {"name": "a", "merge": "a"}]))
    (model.path / "chat_template.jinja").write_text("{{ raise_exception('not today') }}")
    with pytest.raises(BadInput, match=r"refuses the first prompt, of user \(not today\)"):
        check_templates(prepared(model, tmp_path, [{"name": "base"}]))


def test_text_completions_of_a_chat_model_are_said(tmp_path: Path, model: ModelRef):
    completions = {"api": "completions", "stages": [{"concurrency": 1, "requests": 1}]}
    made = prepared(model, tmp_path, [{"name": "base"}], workload=completions)
    assert template_notes(made) == {
        "base": ["has a chat template, and is asked text completions, without it"]
    }


def test_another_style_than_it_was_trained_in_is_said(tmp_path: Path, model: ModelRef):
    variants = [
        {"name": "base"},
        {"name": "plain", "adapter": "finetune"},
        {"name": "short", "merge": "finetune", "prompt": "short"},
    ]
    sections = {
        "prompts": {"short": "Q: {input}"},
        "finetune": {"prompt": "short"},
        "data": {"eval": "e", "train": "t"},
    }
    made = prepared(model, tmp_path, variants, **sections)
    assert template_notes(made) == {
        "plain": ["trained in the style short and asked in the data's own words"]
    }


def test_the_style_that_an_adapter_of_another_run_records(tmp_path: Path, model: ModelRef):
    adapter(tmp_path / "a")
    for record, notes in (
        ({"config": {"prompt": None}}, {}),
        (
            {"config": {"prompt": "brief"}},
            {"a": ["trained in the style brief and asked in the data's own words"]},
        ),
    ):
        (tmp_path / "a" / "tunedyno.json").write_text(json.dumps(record))
        assert (
            template_notes(
                prepared(model, tmp_path, [{"name": "base"}, {"name": "a", "adapter": "a"}])
            )
            == notes
        )


def test_a_model_without_a_tokenizer(tmp_path: Path, model: ModelRef):
    (model.path / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"variants\.base: .*model: no tokenizer; copy"):
        check_templates(prepared(model, tmp_path, [{"name": "base"}]))
