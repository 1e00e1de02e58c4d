"""Which chat template each variant is asked through, checked before anything starts, and what follows from it."""

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


def adapters_own(adapter: Path, base: ModelRef) -> str | None:
    """The template that an adapter was trained with, where it has one that is not its base's."""
    if not adapter.is_dir() or not base.path.is_dir():
        return None
    own = read_template(adapter)
    return own if own != read_template(base.path) else None


def served_template(
    prepared: Prepared, variant: VariantConfig, adapter: Path, base: ModelRef
) -> str | None:
    """What an adapter's server is given in place of the base's template; None where it takes the base's."""
    if _replaced(prepared):
        return None
    here = trained_here(prepared, variant)
    return here.text if here else adapters_own(adapter, base)


def trained_here(prepared: Prepared, variant: VariantConfig) -> Template | None:
    """The template of `finetune.chat_template`, where the variant's adapter is to be trained with it."""
    config = prepared.experiment.finetune
    trained = variant.is_student or is_own(variant.adapter) or is_own(variant.merge)
    text = own_template(config) if config and trained else None
    return (
        Template(text, config.chat_template) if text and config and config.chat_template else None
    )


def template_of(prepared: Prepared, variant: VariantConfig) -> Template | None:
    """What the variant's server will render chats with; None where it has none, or nobody knows yet."""
    base = prepared.base_of(variant)
    if here := trained_here(prepared, variant):
        return here
    if (adapter := trained_with(prepared, variant)) and (own := adapters_own(adapter, base)):
        return Template(own, adapter)
    text = read_template(base.path)
    return Template(text, base.path) if text else None


def trained_with(prepared: Prepared, variant: VariantConfig) -> Path | None:
    """The folder of an adapter that is there already: one from elsewhere."""
    name = variant.adapter or variant.merge
    return adapter_folder(name, prepared.where) if name and not is_own(name) else None


def check_templates(prepared: Prepared) -> None:
    """Raises BadInput where a model has no tokenizer, or a chat can't be asked: no template, a broken one, one that refuses."""
    _check_replacement(prepared)
    for variant in _served(prepared):
        where = f"variants.{variant.name}: {prepared.base_of(variant).path}"
        if not has_tokenizer(prepared.base_of(variant).path):
            raise BadInput(
                f"{where}: no tokenizer; copy the tokenizer's files of the original model there"
            )
        if prepared.experiment.workload.api != "chat" or _replaced(prepared):
            continue
        if (template := template_of(prepared, variant)) is not None:
            check_template(template.source, template.text, _first_prompt(prepared, variant))
        elif not _renders_itself(prepared.base_of(variant).path):
            raise BadInput(
                f"{where} has no chat template, so it can't be asked with workload.api: chat; "
                "write api: completions, put a chat_template.jinja there, or leave the variant out"
            )


def template_notes(prepared: Prepared) -> dict[str, list[str]]:
    """By variant, how it is asked otherwise than it was trained, or than the baseline."""
    notes = {variant.name: list(_notes(prepared, variant)) for variant in _served(prepared)}
    return {name: lines for name, lines in notes.items() if lines}


def _notes(prepared: Prepared, variant: VariantConfig) -> Iterator[str]:
    experiment = prepared.experiment
    styles = None if experiment.workload.dataset else _trained_style(prepared, variant)
    if styles is not None and styles != (variant.prompt,):
        yield f"trained in {_style(styles[0])} and asked in {_style(variant.prompt)}"
    template = template_of(prepared, variant)
    if template is None or _replaced(prepared):
        return
    if experiment.workload.api == "completions":
        yield "has a chat template, and is asked text completions, without it"
        return
    baseline = next(v for v in experiment.variants if v.name == experiment.baseline)
    other = template_of(prepared, baseline) if baseline in _served(prepared) else None
    if other and other.text != template.text:
        yield f"asked through another chat template than {baseline.name}: that of {template.source.name}"


def _trained_style(prepared: Prepared, variant: VariantConfig) -> tuple[str | None] | None:
    """The prompt style that a variant's adapter was trained in, in a tuple; None where that is not recorded."""
    if is_own(variant.adapter) or is_own(variant.merge):
        finetune = prepared.experiment.finetune
        return (finetune.prompt,) if finetune else None
    adapter = trained_with(prepared, variant)
    return None if adapter is None else prompt_style(adapter)


def _style(name: str | None) -> str:
    return f"the style {name}" if name else "the data's own words"


def _served(prepared: Prepared) -> list[VariantConfig]:
    """The variants that are served here and whose base is on this machine."""
    return [
        v for v in prepared.experiment.variants if not v.url and prepared.base_of(v).path.is_dir()
    ]


def _replaced(prepared: Prepared) -> bool:
    """Whether `serve.engine` names one template for every server."""
    return _replacement(prepared) is not None


def _replacement(prepared: Prepared) -> str | None:
    engine = prepared.experiment.serve.engine
    return next(
        (str(value) for key, value in engine.items() if key.strip("-").replace("_", "-") == OPTION),
        None,
    )


def _check_replacement(prepared: Prepared) -> None:
    """A server works in a folder of its own, where a relative path leads nowhere."""
    template = _replacement(prepared)
    if (
        template
        and "{" not in template
        and not (Path(template).is_absolute() and Path(template).is_file())
    ):
        raise BadInput(
            f"serve.engine.{OPTION}: {template}: no such file; write the absolute path of a template"
        )


def _renders_itself(folder: Path) -> bool:
    """Whether vLLM may have a template for the model elsewhere: in its processor's settings, or in code."""
    return any(any(folder.glob(name)) for name in _OWN_TOKENIZERS)


def _first_prompt(prepared: Prepared, variant: VariantConfig) -> list[dict[str, str]]:
    style = prepared.style_of(variant)
    first = next(
        (prompt.messages[style] for prompt in prepared.prompts if style in prompt.messages), None
    )
    return first or [{"role": "user", "content": "Hello"}]
