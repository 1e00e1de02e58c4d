"""SHA-256 of file contents: the identity of everything that comes from outside a run.

Hashing 16 GB takes many seconds, so the hash of a large file is cached under its path, size, inode
and times. A file's change time can't be set back, so an edit that restores its date is seen too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

from foundation.files.atomic_write import write_whole
from foundation.files.cache_folder import cache_folder

SMALL = 1 << 20
"""Bytes of a file that is hashed every time."""
SETTLED_S = 2.0
"""A file may change again this soon without a new date, so its hash is not cached."""

IDENTITY = "identity.json"
"""The file with a folder's identity. It is no part of the folder's contents."""

# Files that our loaders don't read: documents, and weights that are refused or ignored.
_UNREAD = frozenset(
    (
        ".md",
        ".bin",
        ".pt",
        ".pth",
        ".ckpt",
        ".gguf",
        ".h5",
        ".msgpack",
        ".onnx",
        ".ot",
        ".png",
        ".jpg",
        ".pdf",
    )
)
# The one subfolder that transformers reads.
_TEMPLATES = "additional_chat_templates"


def identity_of(value: object) -> str:
    """SHA-256 (hex) of a value made of JSON's types. Equal values have equal identities."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def folder_contents(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a model or adapter: weights, tokenizer, config, code."""
    files = [*folder.iterdir(), *(folder / _TEMPLATES).glob("*.jinja")]
    return {
        str(file.relative_to(folder)): file_sha256(file) for file in sorted(files) if _is_read(file)
    }


def _is_read(file: Path) -> bool:
    hidden = file.name.startswith((".", "LICENSE")) or file.name == IDENTITY
    return not hidden and file.suffix.lower() not in _UNREAD and file.is_file()


def file_sha256(file: Path) -> str:
    """SHA-256 (hex) of a file. Raises OSError if it can't be read."""
    status = file.stat()
    if status.st_size <= SMALL:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    path = str(file.resolve())
    key = [path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    entry = cache_folder() / "hashes" / f"{name}.json"
    if (known := _cached(entry, key)) is not None:
        return known
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_S:
        _cache(entry, key, digest)
    return digest


def _cached(entry: Path, key: list[object]) -> str | None:
    try:
        stored = json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = stored.get("sha256") if isinstance(stored, dict) and stored.get("key") == key else None
    return known if isinstance(known, str) and len(known) == 64 else None


def _cache(entry: Path, key: list[object], digest: str) -> None:
    """Keep a hash. A cache that can't be written only costs time."""
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_whole(entry, json.dumps({"key": key, "sha256": digest}))
