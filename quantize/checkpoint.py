"""The folder a checkpoint is written to: room for it, the files copied from its source, and its recipe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.model import ModelRef
from foundation.template_file import FILE, read_template
from foundation.whole_file import write_whole

_TOKENIZER = (
    "tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model", "*.tiktoken",
    "chat_template*", "*.jinja", "additional_chat_templates/*.jinja",
)  # fmt: skip
"""What a tokenizer is made of, its chat templates included."""

_COMPANIONS = (*_TOKENIZER, "generation_config.json", "*processor_config.json", "*.py", "LICENSE*", "NOTICE*", "USE_POLICY*")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def make_room(out: Path, needed: int) -> None:
    """Create the folder. Raises BadInput where its disk has fewer than `needed` bytes free."""
    standing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(standing).free
    if free < needed:
        raise BadInput(
            f"{out}: {free:,} bytes free on its disk, {needed:,} needed for the checkpoint; free some, or write elsewhere"
        )
    out.mkdir(parents=True, exist_ok=True)


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


def write_recipe(out: Path, source: ModelRef, packages: Iterable[str], **recipe: Any) -> None:
    """`recipe.json`: from what, how, with which versions, and bytes of weights before and after."""
    before, after = source.size_bytes(), ModelRef(source.id, None, out).size_bytes()
    text = {
        "schema_version": 1,
        "from": {"id": source.id, "revision": source.revision, "fingerprint": source.fingerprint()},
        **recipe,
        "bytes_before": before,
        "bytes_after": after,
        "versions": {name: version(name) for name in ("tunedyno", "torch", "transformers", *packages)},
    }
    write_whole(out / "recipe.json", json.dumps(text, indent=2) + "\n")
