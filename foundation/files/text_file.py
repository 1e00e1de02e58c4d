"""Reads a text file in UTF-8 or a named encoding; recognizes other kinds by their first bytes."""

from __future__ import annotations

import codecs
from pathlib import Path

from foundation.errors import BadInput

GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""What a file begins with that stands for a large one, in a clone without Git LFS."""

_KINDS = {
    b"PAR1": "a Parquet file; give it the ending .parquet",
    b"PK\x03\x04": "a ZIP archive (an .xlsx workbook is one); save its table as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it",
    b"BZh": "compressed with bzip2; unpack it",
    b"\xfd7zXZ\x00": "compressed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; unpack it",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"%PDF": "a PDF; write its text as JSON lines",
    GIT_LFS_POINTER: "what Git LFS leaves in a file's place; run git lfs pull there",
    b"SQLite format 3": "an SQLite database; export its table as CSV",
}
# The longer mark first: UTF-32's begins like UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(file: Path, encoding: str | None = None, *, key: str | None = "data.encoding") -> str:
    """The whole text without its byte order mark; line ends stay.

    `encoding`: the name of a Python codec; None means UTF-8.
    `key`: the setting that names the encoding, for errors; None if there is no such setting.
    Raises BadInput that names file and line, or the kind of a file that is no text.
    """
    raw = _bytes(file)
    marked = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None)
    codec = codecs.lookup(encoding or "utf-8").name
    if marked and not codec.startswith(marked):
        says = f"{key} says {encoding}" if encoding else f"{_remedy(key, marked)}"
        raise BadInput(f"{file}:1: {marked.upper()} text, by its first bytes; {says}")
    if encoding and _one_byte_a_character(codec) and not raw.isascii() and _is_utf8(raw):
        raise BadInput(f"{file}: UTF-8 text, and {key} says {encoding}; leave it out")
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError as error:
        line = raw[: error.start].decode(codec, "replace").count("\n") + 1
        name = "UTF-8" if codec == "utf-8" else codec
        remedy = (
            f"write the encoding of the file, not {encoding}"
            if encoding
            else f"{_remedy(key, 'latin-1')}"
        )
        raise BadInput(
            f"{file}:{line}: byte 0x{raw[error.start]:02X} is not {name}; {remedy}"
        ) from None
    if encoding is None and "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadInput(
            f"{file}:{line}: a zero byte, which no UTF-8 text holds; {_remedy(key, 'utf-16-le')}"
        )
    return text.removeprefix("\ufeff")


def _remedy(key: str | None, encoding: str) -> str:
    return "save the file as UTF-8" + (f", or name its encoding ({key}: {encoding})" if key else "")


def check_encoding(name: str) -> str:
    """The name of a text encoding. Raises ValueError if Python does not know it."""
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        raise ValueError(
            f"{name!r} is no text encoding; write such as utf-16, latin-1 or cp1252"
        ) from None
    return name


def _bytes(file: Path) -> bytes:
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except IsADirectoryError:
        raise BadInput(f"{file}: a folder; name a file in it") from None
    except OSError as error:
        raise BadInput(f"{file}: can't be read ({error.strerror or error})") from None
    for first, kind in _KINDS.items():
        if raw.startswith(first):
            raise BadInput(f"{file}: {kind}")
    return raw


def _one_byte_a_character(codec: str) -> bool:
    return len(bytes(range(256)).decode(codec, "replace")) == 256


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
