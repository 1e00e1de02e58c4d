"""Finds and checks the chat template of each variant before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dyno.experiment.models import adapter_folder
from dyno.experiment.variants import VariantConfig, is_own
from dyno.pipeline.prepared import Prepared
from finetune.checks import own_template
from foundation.errors import BadInput
from foundation.models.adapter_record import prompt_style
from foundation.models.model import ModelRef
from foundation.models.template_file import check_template, read_template
from foundation.models.tokenizer import has_tokenizer
from serve.config import option_name

OPTION = "chat-template"
_OWN_TOKENIZERS = (
    "tekken.json",
    "tokenizer.model.v*",
    "chat_template.json",
    "processor_config.json",
)


@dataclass(frozen=True)
class Template:
    """A variant's chat template and the file or folder that it comes from."""

    text: str
    source: Path


def adapter_template(adapter: Path, base: ModelRef) -> str | None:
    """The template that an adapter was trained with; None if it is its base's."""
    if not adapter.is_dir() or not base.path.is_dir():
        return None
    own = read_template(adapter)
    return own if own != read_template(base.path) else None


def served_template(
    prepared: Prepared, variant: VariantConfig, adapter: Path, base: ModelRef
) -> str | None:
    """The template that an adapter's server needs in place of its base's; None if it needs none."""
    if _replacement(prepared, variant) is not None:
        return None
    template = training_template(prepared, variant)
    return template.text if template else adapter_template(adapter, base)


def training_template(prepared: Prepared, variant: VariantConfig) -> Template | None:
    """The template `finetune.chat_template`, if the run trains the variant's adapter with it."""
    config = prepared.experiment.finetune_of(variant)
    if config is None or config.chat_template is None or not variant.is_trained:
        return None
    text = own_template(config)
    return Template(text, config.chat_template) if text else None


def template_of(prepared: Prepared, variant: VariantConfig) -> Template | None:
    """The template that renders the variant's chats; None if there is none, or it is not known."""
    base = prepared.base_of(variant)
    if template := training_template(prepared, variant):
        return template
    adapter = external_adapter(prepared, variant)
    if adapter is not None and (own := adapter_template(adapter, base)):
        return Template(own, adapter)
    text = read_template(base.path)
    return Template(text, base.path) if text else None


def external_adapter(prepared: Prepared, variant: VariantConfig) -> Path | None:
    """The folder of the variant's adapter, unless the experiment trains it."""
    name = variant.adapter or variant.merge
    return adapter_folder(name, prepared.where) if name and not is_own(name) else None


def check_templates(prepared: Prepared) -> None:
    """Raises BadInput for a model without a tokenizer, or whose template can't render a chat.

    The template may be missing, broken, or refuse the prompts.
    """
    for variant in prepared.experiment.variants:
        _check_replacement(prepared, variant)
    for variant in _served(prepared):
        where = f"variants.{variant.name}: {prepared.base_of(variant).path}"
        if not has_tokenizer(prepared.base_of(variant).path):
            raise BadInput(
                f"{where}: no tokenizer; copy the tokenizer's files of the original model there"
            )
        if prepared.experiment.workload.api != "chat" or _replacement(prepared, variant):
            continue
        if (template := template_of(prepared, variant)) is not None:
            check_template(template.source, template.text, _first_prompt(prepared, variant))
        elif not _may_render_itself(prepared.base_of(variant).path):
            raise BadInput(
                f"{where} has no chat template, so it can't be asked with workload.api: chat; "
                "write api: completions, put a chat_template.jinja there, or leave the variant out"
            )


def template_notes(prepared: Prepared) -> dict[str, list[str]]:
    """By variant, how its prompts differ from those of its training, or of the baseline."""
    notes = {variant.name: list(_notes(prepared, variant)) for variant in _served(prepared)}
    return {name: lines for name, lines in notes.items() if lines}


def _notes(prepared: Prepared, variant: VariantConfig) -> Iterator[str]:
    experiment = prepared.experiment
    styles = None if experiment.workload.dataset else _trained_style(prepared, variant)
    if styles is not None and styles != (variant.prompt,):
        yield f"trained in {_style(styles[0])} and asked in {_style(variant.prompt)}"
    template = template_of(prepared, variant)
    if template is None or _replacement(prepared, variant) is not None:
        return
    if experiment.workload.api == "completions":
        yield "has a chat template, and is asked text completions, without it"
        return
    baseline = next(v for v in experiment.variants if v.name == experiment.baseline)
    other = template_of(prepared, baseline) if baseline in _served(prepared) else None
    if other and other.text != template.text:
        yield (
            f"asked through another chat template than {baseline.name}: "
            f"that of {template.source.name}"
        )


def _trained_style(prepared: Prepared, variant: VariantConfig) -> tuple[str | None] | None:
    """The prompt style of the adapter's training, in a tuple; None if it is not recorded."""
    if is_own(variant.adapter) or is_own(variant.merge):
        finetune = prepared.experiment.finetune_of(variant)
        return (finetune.prompt,) if finetune else None
    adapter = external_adapter(prepared, variant)
    return None if adapter is None else prompt_style(adapter)


def _style(name: str | None) -> str:
    return f"the style {name}" if name else "the data's own words"


def _served(prepared: Prepared) -> list[VariantConfig]:
    """The variants that this machine serves, and whose base it has."""
    return [
        v for v in prepared.experiment.variants if not v.url and prepared.base_of(v).path.is_dir()
    ]


def _replacement(prepared: Prepared, variant: VariantConfig) -> str | None:
    """The template that `engine` of the variant's server names: a path, or a template's text."""
    template = prepared.experiment.serve_of(variant).options.get(OPTION)
    return None if template is None else str(template)


def _check_replacement(prepared: Prepared, variant: VariantConfig) -> None:
    """Raises BadInput for a path that a server can't find from its own working folder."""
    template = _replacement(prepared, variant)
    if not template or "{" in template:
        return
    if not (Path(template).is_absolute() and Path(template).is_file()):
        own = variant.serve is not None and OPTION in map(option_name, variant.serve.engine)
        where = f"variants.{variant.name}.serve" if own else "serve"
        raise BadInput(
            f"{where}.engine.{OPTION}: {template}: no such file; "
            "write the absolute path of a template"
        )


def _may_render_itself(folder: Path) -> bool:
    """Whether vLLM may find a template elsewhere: in the processor's settings, or in code."""
    return any(any(folder.glob(name)) for name in _OWN_TOKENIZERS)


def _first_prompt(prepared: Prepared, variant: VariantConfig) -> list[dict[str, str]]:
    style = prepared.style_of(variant)
    first = next(
        (prompt.messages[style] for prompt in prepared.prompts if style in prompt.messages), None
    )
    return first or [{"role": "user", "content": "Hello"}]
