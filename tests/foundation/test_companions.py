"""Tokenizer files of a merged checkpoint: the base's, then the adapter's with its template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.models.companions import copy_companions, copy_tokenizer
from foundation.models.template_file import read_template


def folder(
    path: Path, *, file: str | None = None, inline: str | None = None, tokenizer: bool = True
) -> Path:
    path.mkdir()
    if tokenizer:
        settings = {"eos_token": path.name} | ({"chat_template": inline} if inline else {})
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    if file:
        (path / "chat_template.jinja").write_text(file)
    return path


@pytest.mark.parametrize(
    ("base", "adapter", "merged"),
    [
        ({"file": "b"}, {"file": "a"}, "a"),
        ({"file": "b"}, {"inline": "a"}, "a"),
        ({"inline": "b"}, {"file": "a"}, "a"),
        ({"inline": "b"}, {"inline": "a"}, "a"),
        ({"inline": "b"}, {}, "b"),
        ({"file": "b"}, {}, "b"),
        ({"file": "b"}, {"tokenizer": False}, "b"),
        ({}, {"inline": "a"}, "a"),
        ({}, {}, None),
    ],
)
def test_the_adapters_template_comes_before_the_bases(
    tmp_path: Path, base: dict, adapter: dict, merged: str | None
):
    out = tmp_path / "out"
    out.mkdir()
    copy_companions(folder(tmp_path / "base", **base), out)
    copy_tokenizer(folder(tmp_path / "adapter", **adapter), out)
    assert read_template(out) == merged
    tokenizer = "base" if adapter == {"tokenizer": False} else "adapter"
    assert json.loads((out / "tokenizer_config.json").read_text())["eos_token"] == tokenizer
