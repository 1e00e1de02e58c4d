"""Tokens that a tokenizer has and its base's has not."""

from __future__ import annotations

import json
from pathlib import Path

from foundation.models.tokenizer import new_tokens


def write(folder: Path, *added: str) -> Path:
    """A tokenizer of the words `a` and `b`, with ids 0 and 1, and of added tokens."""
    folder.mkdir()
    tokens = [{"content": token, "id": 2 + number} for number, token in enumerate(added)]
    (folder / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": tokens})
    )
    return folder


def test_tokens_that_the_base_does_not_have(tmp_path: Path) -> None:
    base, ours = write(tmp_path / "base", "<s>"), write(tmp_path / "ours", "<s>", "<tool>", "a")
    assert new_tokens(ours, base) == {"<tool>": 3}


def test_nothing_is_known_where_one_has_no_tokenizer(tmp_path: Path) -> None:
    ours, bare = write(tmp_path / "ours", "<tool>"), tmp_path / "bare"
    bare.mkdir()
    assert new_tokens(ours, bare) == new_tokens(bare, ours) == {}
