"""The identity of files: every byte that is read counts, whatever its date says."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from foundation.files import content_hash
from foundation.files.content_hash import SMALL, file_sha256, folder_contents, identity_of


def model(folder: Path) -> Path:
    folder.mkdir()
    for name in (
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "config.json",
        "code.py",
        "vocab.txt",
    ):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json", "code.py"]
)
def test_a_changed_byte_changes_the_contents(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "model")
    before = folder_contents(folder)
    assert before[name] == hashlib.sha256(name.encode()).hexdigest()
    (folder / name).write_bytes(name.encode()[:-1] + b"?")
    after = folder_contents(folder)
    assert {each for each in after if after[each] != before[each]} == {name}


def test_what_no_loader_reads_is_no_contents(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    before = folder_contents(folder)
    for name in ("README.md", "LICENSE", ".gitattributes", "pytorch_model.bin", "identity.json"):
        (folder / name).write_text("words")
    (folder / "checkpoint-500").mkdir()
    (folder / "checkpoint-500" / "model.safetensors").write_text("elsewhere")
    assert folder_contents(folder) == before
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    assert folder_contents(folder).keys() - before.keys() == {
        "additional_chat_templates/tools.jinja"
    }


def test_a_large_file_is_hashed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content_hash, "SETTLED_S", -1.0)  # as if it had been written long ago
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(SMALL + 1))
    right = hashlib.sha256(bytes(SMALL + 1)).hexdigest()
    assert file_sha256(file) == right

    # What is cached is taken: another hash in its place comes back.
    [entry] = (tmp_path / "cache" / "hashes").iterdir()
    planted = json.loads(entry.read_text()) | {"sha256": "f" * 64}
    entry.write_text(json.dumps(planted))
    assert file_sha256(file) == "f" * 64

    # An edit of one byte that keeps size and date is seen all the same.
    time.sleep(0.05)  # the kernel's clock of changes takes steps of some milliseconds
    before = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"\1")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file_sha256(file) == hashlib.sha256(b"\1" + bytes(SMALL)).hexdigest()

    # So is another file that takes its place, and damage of the cache costs nothing.
    entry.write_text("{")
    file.unlink()
    file.write_bytes(bytes(SMALL + 1))
    assert file_sha256(file) == right


def test_what_was_written_a_moment_ago_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content_hash, "SETTLED_S", 3600.0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(SMALL + 1))
    file_sha256(file)
    assert not (tmp_path / "cache").exists()


def test_equal_values_have_one_identity() -> None:
    assert identity_of({"a": 1, "b": [1, 2]}) == identity_of({"b": [1, 2], "a": 1})
    different = [
        {"a": 1},
        {"a": "1"},
        {"a": True},
        {"a": None},
        {},
        {"a": [1]},
        {"a": 1.5},
        {"b": 1},
    ]
    assert len({identity_of(value) for value in different}) == len(different)
