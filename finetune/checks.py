"""Checks the section `finetune` beside its data: files, module names, the machine's features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from finetune.config import FinetuneConfig, is_pattern, names_module
from finetune.warm_start import check_start
from foundation.errors import BadInput
from foundation.models.model import ModelRef, is_causal
from foundation.section import nearest

_ENDS = frozenset({"lm_head", "embed_tokens"})
"""The two ends of a model, which vLLM takes no adapter of."""


def check_base(base: ModelRef, config: FinetuneConfig) -> dict[str, object]:
    """The base's `config.json`. Raises BadInput for a base that the config can't train."""
    about = base.config()
    architectures = about.get("architectures")
    names = [str(a) for a in architectures] if isinstance(architectures, list) else []
    if not any(map(is_causal, names)):
        raise BadInput(
            f"{base.path}/config.json: architectures: {', '.join(names) or 'none'}; "
            "finetune needs a causal LM (...ForCausalLM)"
        )
    if "quantization_config" in about:
        raise BadInput(
            f"{base.id}: already quantized; fine-tune the full-precision model, then quantize once"
        )
    base.fingerprint()  # refuses weights that are not safetensors
    _check_code(base, about, config)
    check_modules(base, about, config)
    check_optimizer(config)
    if config.warm_start:
        check_start(config.warm_start, base, config)
    if not can_evaluate(config) and (
        config.patience or config.eval_steps or config.watch == "score"
    ):
        raise BadInput(
            "finetune.base_format: nf4 can't be evaluated while it is trained on a CPU "
            "(bitsandbytes repacks the weights for good), which patience, eval_steps and "
            "watch: score need; leave them out, or write base_format: int8"
        )
    return about


def _check_code(base: ModelRef, about: dict[str, object], config: FinetuneConfig) -> None:
    from transformers import CONFIG_MAPPING

    if (
        about.get("auto_map")
        and about.get("model_type") not in CONFIG_MAPPING
        and not config.trust_remote_code
    ):
        raise BadInput(
            f"{base.path}/config.json: auto_map: this model brings Python code of its own, "
            "which is not run unless asked for; read it, then write "
            "finetune.trust_remote_code: true"
        )


def can_evaluate(config: FinetuneConfig) -> bool:
    """Whether the model can be evaluated during training.

    An NF4 base on a CPU can't: the first evaluation spoils the weights for the rest.
    """
    import torch

    return (
        not (config.method == "qlora" and config.base_format == "nf4") or torch.cuda.is_available()
    )


def check_optimizer(config: FinetuneConfig) -> None:
    """Raises BadInput where the optimizer needs a GPU and there is none."""
    import torch

    if config.optimizer.startswith("paged") and not torch.cuda.is_available():
        raise BadInput(
            f"finetune.optimizer: {config.optimizer} pages its state between GPU and host; "
            "write adamw or adamw_8bit"
        )


def use_own_template(config: FinetuneConfig, tokenizer: Any) -> None:
    """Replace the tokenizer's template by that of `finetune.chat_template`.

    Raises BadInput where the file holds no template.
    """
    import jinja2

    if config.chat_template is None:
        return
    tokenizer.chat_template = own_template(config)
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    except jinja2.TemplateSyntaxError as error:
        raise BadInput(
            f"finetune.chat_template: {config.chat_template}:{error.lineno}: "
            f"not a jinja template ({error.message})"
        ) from None
    except jinja2.TemplateError:
        pass  # the template refuses this message; it is tried on every example later


def own_template(config: FinetuneConfig) -> str | None:
    """The text of `finetune.chat_template`, None where it is not set.

    Raises BadInput for a file that can't be read.
    """
    file = config.chat_template
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(
            f"finetune.chat_template: {file}: no such file; write the path of a jinja template"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"finetune.chat_template: {file}: can't be read ({error})") from None
    if not text.strip():
        raise BadInput(f"finetune.chat_template: {file}: empty; write a jinja template")
    return text


def check_modules(base: ModelRef, about: Mapping[str, object], config: FinetuneConfig) -> None:
    """Raises BadInput for modules that the model lacks, or that no server takes an adapter of."""
    for module in config.modules_to_save:
        if module in _ENDS and about.get("tie_word_embeddings"):
            raise BadInput(
                f"finetune.modules_to_save: {module}: {base.id} uses one matrix "
                "for embed_tokens and lm_head; leave it out"
            )
    if not (config.entries or config.modules_to_save):
        return
    paths = {
        name.removesuffix(".weight"): len(shape)
        for name, shape in base.shapes().items()
        if name.endswith(".weight")
    }
    linear = [path for path, dimensions in paths.items() if dimensions == 2]
    for entry in config.entries:
        meant = [path for path in linear if names_module(entry, path)]
        if ends := sorted(_ENDS.intersection([entry, *map(_leaf, meant)])):
            who = entry if [entry] == ends else f"{entry!r} matches {' and '.join(ends)}"
            raise BadInput(
                f"finetune.target_modules: {who}: no server takes an adapter of it; "
                "leave it out, as all-linear does"
            )
        if not meant:
            raise _no_module("target_modules", base, entry, set(map(_leaf, linear)) - _ENDS)
    for module in config.modules_to_save:
        if module not in map(_leaf, paths):
            raise _no_module("modules_to_save", base, module, set(map(_leaf, paths)))


def _no_module(key: str, base: ModelRef, entry: str, names: Iterable[str]) -> BadInput:
    kind = "linear layer that matches" if is_pattern(entry) else "module"
    return BadInput(f"finetune.{key}: {base.id} has no {kind} {entry!r}{nearest(entry, names)}")


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]
