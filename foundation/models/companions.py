"""Copies the files that belong to a model's weights: tokenizer, template, settings, code."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from foundation.files.atomic_write import write_whole
from foundation.models.template_file import FILE, read_template

_TOKENIZER = (
    "tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "*.model", "*.tiktoken", "chat_template*", "*.jinja", "additional_chat_templates/*.jinja",
)  # fmt: skip
"""A tokenizer's files and its chat templates."""

_COMPANIONS = (
    *_TOKENIZER,
    "generation_config.json",
    "*processor_config.json",
    "*.py",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def copy_companions(source: Path, out: Path) -> None:
    """Copy tokenizer, chat template, generation config and code byte for byte.

    So every variant gets the same tokens from a prompt. Other files stay behind: an adapter or a
    trainer's state would pass for a part of the model.
    """
    _copy(source, out, _COMPANIONS)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copy tokenizer and chat template alone, such as those of an adapter's training.

    The template of `out`, which may be in `tokenizer_config.json`, stays if `source` has none.
    """
    template = read_template(source) or read_template(out)
    _copy(source, out, _TOKENIZER)
    if template != read_template(out):
        write_whole(out / FILE, template or "")


def _copy(source: Path, out: Path, patterns: Iterable[str]) -> None:
    for file in sorted({file for pattern in patterns for file in source.glob(pattern)}):
        if file.is_file() and file.suffix not in _WEIGHTS:
            to = out / file.relative_to(source)
            to.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, to)
