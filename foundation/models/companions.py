"""The files that go with a model's weights wherever they go: tokenizer, chat template, generation config, code."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from foundation.files.atomic_write import write_whole
from foundation.models.template_file import FILE, read_template

_TOKENIZER = (
    "tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model", "*.tiktoken",
    "chat_template*", "*.jinja", "additional_chat_templates/*.jinja",
)  # fmt: skip
"""What a tokenizer is made of, its chat templates included."""

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
    """Tokenizer, chat template, generation config, byte for byte: every variant must get the same tokens from a prompt.

    What else lies in a model folder stays there: an adapter, or the state of a trainer, would be taken for a part of the model.
    """
    _copy(source, out, _COMPANIONS)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Tokenizer and chat template alone: those that an adapter was trained with, where it has them.

    One of both may have its template in `tokenizer_config.json`: that of `out` stays where `source` has none.
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
